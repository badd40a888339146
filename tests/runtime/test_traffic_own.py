"""What a pass over a model of our own families reads: its files are no checkpoints of transformers."""

from packed import model_folder, package

from lmtasks.runtime.op_costs import traffic_of


def test_embeddings_are_looked_up_and_layers_are_read() -> None:
    found = traffic_of(model_folder("bilstm"), graph="heads", precision="fp32")
    assert found is not None
    side, width, layers, ways = 8, 16, 2, 2
    body = layers * ways * 4 * side * (width + side)
    biases = layers * ways * 2 * 4 * side
    assert (found.body, found.projection, found.cache_bytes) == (body, 0, 0)
    assert found.weight_bytes == 4 * (body + biases)


def test_a_graph_reads_as_much_besides_its_heads() -> None:
    torch = traffic_of(model_folder("bigru"), graph="heads", precision="fp32")
    onnx = traffic_of(package("bigru"), graph="heads", precision=None)
    assert torch is not None
    assert onnx is not None
    heads = 16 * (3 + 2 + 3 + 2) + 16 * 16 + 16 * 2  # mood, topic, tag, high; the span head has two layers
    assert onnx.body - torch.body in {heads, heads + 2 * 6 * 8}  # biases of both ways stand in one matrix
