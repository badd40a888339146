"""How each peer is used: as its own documentation says, in the thread layout that is best for it."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runtimes_contestant import Answers, Inputs, Work, batches


class Transformers:
    """`generate`, or the model with its head; batches padded right, masked."""

    more: Mapping[str, Any] = {}
    """Settings of `generate` beside those of the work."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
        from transformers import AutoModelForSequenceClassification as WithHead

        torch.set_num_threads(asked["threads"])
        kinds = {"marian": AutoModelForSeq2SeqLM, "minilm": WithHead}
        model = kinds.get(asked["shape"], AutoModelForCausalLM)
        self.model = model.from_pretrained(asked["folder"]).eval()
        self._describe(asked)

    def _describe(self, asked: Mapping[str, Any]) -> None:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(asked["folder"])
        self.pairs = asked["shape"] == "marian"
        self.pad = config.pad_token_id if config.pad_token_id is not None else 0

    def versions(self) -> Mapping[str, str]:
        return {"torch": version("torch"), "transformers": version("transformers")}

    def open(self, work: Work) -> None:
        from transformers import GenerationConfig

        if work["new"]:
            own = self.model.generation_config
            self.settings = GenerationConfig(
                max_new_tokens=work["new"],
                min_new_tokens=work["new"],
                num_beams=work["beams"],
                do_sample=False,
                eos_token_id=own.eos_token_id if self.pairs else None,
                pad_token_id=self.pad,
                decoder_start_token_id=own.decoder_start_token_id,
                **self.more,
            )

    def answer(self, work: Work, inputs: Inputs) -> Answers:
        import torch

        answers: Answers = [[]] * len(inputs)
        for places in batches(work, inputs):
            longest = max(len(inputs[at]) for at in places)
            ids = torch.full((len(places), longest), self.pad)
            mask = torch.zeros((len(places), longest), dtype=torch.long)
            for row, at in enumerate(places):
                ids[row, : len(inputs[at])] = torch.tensor(inputs[at])
                mask[row, : len(inputs[at])] = 1
            with torch.inference_mode():
                if work["new"]:
                    written = self.model.generate(ids, attention_mask=mask, generation_config=self.settings)
                    found = written[:, 1 if self.pairs else longest :].tolist()
                else:
                    found = self.model(input_ids=ids, attention_mask=mask).logits.argmax(-1, keepdim=True).tolist()
            for at, row in zip(places, found, strict=True):
                answers[at] = row
        return answers


class Compiled(Transformers):
    """The same under torch.compile, with the cache of a fixed size that its guide recommends."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        import torch

        super().__init__(asked)
        encoder = asked["shape"] == "minilm"
        self.more = {} if encoder else {"cache_implementation": "static"}
        # A head sees every length; while decoding only the first call of a text is not of one token.
        self.model.forward = torch.compile(self.model.forward, dynamic=True if encoder else None)


class Optimum(Transformers):
    """Its models of ONNX Runtime have transformers' own interface; all threads work on one call."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        import onnxruntime
        from optimum.onnxruntime import ORTModelForCausalLM, ORTModelForSeq2SeqLM
        from optimum.onnxruntime import ORTModelForSequenceClassification as WithHead

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = asked["threads"]
        kinds = {"marian": ORTModelForSeq2SeqLM, "minilm": WithHead}
        model = kinds.get(asked["shape"], ORTModelForCausalLM)
        self.model = model.from_pretrained(asked["folder"], session_options=options)
        self._describe(asked)

    def versions(self) -> Mapping[str, str]:
        names = ("optimum-onnx", "onnxruntime", "transformers")
        return {f"{name} (optimum's)" if name != "optimum-onnx" else name: version(name) for name in names}


class Genai:
    """Its generator: one text, or a batch of prompts that are equally long."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        import onnxruntime_genai

        config = onnxruntime_genai.Config(asked["folder"])
        overlay = {"model": {"decoder": {"session_options": {"intra_op_num_threads": asked["threads"]}}}}
        config.overlay(json.dumps(overlay))
        self.library, self.model = onnxruntime_genai, onnxruntime_genai.Model(config)

    def versions(self) -> Mapping[str, str]:
        return {"onnxruntime-genai": version("onnxruntime-genai")}

    def open(self, work: Work) -> None:
        return

    def answer(self, work: Work, inputs: Inputs) -> Answers:
        import numpy as np

        answers: Answers = [[]] * len(inputs)
        for places in batches(work, inputs):
            ids = np.array([inputs[at] for at in places], dtype=np.int32)
            settings = self.library.GeneratorParams(self.model)
            length = ids.shape[1] + work["new"]
            settings.set_search_options(
                max_length=length, min_length=length, batch_size=len(places), do_sample=False, num_beams=1
            )
            generator = self.library.Generator(self.model, settings)
            generator.append_tokens(ids)
            while not generator.is_done():
                generator.generate_next_token()
            for row, at in enumerate(places):
                answers[at] = [int(each) for each in generator.get_sequence(row)[ids.shape[1] :]]
        return answers


class OpenVino:
    """Its queue of requests, a stream a thread, as its guide for throughput has it."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        import openvino

        self.asked = asked
        self.core = openvino.Core()
        self.library = openvino
        self.queue: Any = None

    def versions(self) -> Mapping[str, str]:
        return {"openvino": version("openvino"), "nncf": version("nncf")}

    def open(self, work: Work) -> None:
        threads = self.asked["threads"]
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": "bf16" if self.asked["precision"] == "bf16" else "f32",
        }
        model = self.core.compile_model(Path(self.asked["folder"]) / "model.xml", "CPU", settings)
        self.queue = self.library.AsyncInferQueue(model, threads)

    def answer(self, work: Work, inputs: Inputs) -> Answers:
        import numpy as np

        answers: Answers = [[]] * len(inputs)

        def label(request: Any, places: list[int]) -> None:
            for at, found in zip(places, request.get_output_tensor(0).data.argmax(-1), strict=True):
                answers[at] = [int(found)]

        self.queue.set_callback(label)
        for places in batches(work, inputs):
            shape = (len(places), max(len(inputs[at]) for at in places))
            ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
            for row, at in enumerate(places):
                ids[row, : len(inputs[at])], mask[row, : len(inputs[at])] = inputs[at], 1
            self.queue.start_async({"input_ids": ids, "attention_mask": mask}, places)
        self.queue.wait_all()
        return answers


class CTranslate2:
    """One worker of all threads for one stream, a worker a thread for many; ids go in and out as its vocabulary names
    them."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.asked = asked
        file = next(Path(asked["folder"]).glob("*vocabulary.json"))
        self.words: list[str] = json.loads(file.read_text(encoding="utf-8"))
        self.ids = {word: at for at, word in enumerate(self.words)}
        self.model: Any = None

    def versions(self) -> Mapping[str, str]:
        return {"ctranslate2": version("ctranslate2")}

    def open(self, work: Work) -> None:
        import ctranslate2

        kinds = {"marian": ctranslate2.Translator, "minilm": ctranslate2.Encoder}
        threads = self.asked["threads"]
        inter, intra = (1, threads) if work["batch"] == 1 else (threads, 1)
        self.model = None  # the one before is unloaded first
        self.model = kinds.get(self.asked["shape"], ctranslate2.Generator)(
            self.asked["folder"],
            device="cpu",
            inter_threads=inter,
            intra_threads=intra,
            compute_type={"fp32": "float32", "int8": "int8"}[self.asked["precision"]],
        )
        if self.asked["shape"] == "minilm":
            self._read_head()

    def answer(self, work: Work, inputs: Inputs) -> Answers:
        if self.asked["shape"] == "minilm":
            return self._labels(work, inputs)
        texts = [[self.words[each] for each in ids] for ids in inputs]
        new = work["new"]
        if self.asked["shape"] == "marian":
            results = self.model.translate_batch(
                texts,
                beam_size=work["beams"],
                max_batch_size=work["batch"],
                min_decoding_length=new,
                max_decoding_length=new,
                max_input_length=0,
            )
            return [[self.ids[word] for word in each.hypotheses[0]] for each in results]
        given = {"max_length": new, "min_length": new, "include_prompt_in_result": False, "sampling_topk": 1}
        if work["batch"] == 1:
            return [list(self.model.generate_batch([text], **given)[0].sequences_ids[0]) for text in texts]
        results = self.model.generate_batch(texts, max_batch_size=work["batch"], **given)
        return [list(each.sequences_ids[0]) for each in results]

    def _read_head(self) -> None:
        """CTranslate2 has the encoder and its pooling; the matrix behind them is multiplied here."""
        from safetensors.numpy import load_file

        weights = load_file(Path(self.asked["folder"]).parent / "checkpoint" / "model.safetensors")
        self.matrix, self.bias = weights["classifier.weight"], weights["classifier.bias"]

    def _labels(self, work: Work, inputs: Inputs) -> Answers:
        import numpy as np

        answers: Answers = [[]] * len(inputs)

        def label(places: list[int]) -> None:
            output = self.model.forward_batch([list(inputs[at]) for at in places])
            logits = np.array(output.pooler_output) @ self.matrix.T + self.bias
            for at, found in zip(places, logits.argmax(-1), strict=True):
                answers[at] = [int(found)]

        with ThreadPoolExecutor(self.asked["threads"]) as pool:
            list(pool.map(label, batches({**work, "batch": 16}, inputs)))  # 16: its best on two threads
        return answers
