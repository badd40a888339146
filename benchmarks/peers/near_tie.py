"""Where two greedy texts part: how far apart were the two best tokens?"""

from pathlib import Path

from equality import NearTie

LONGEST = 256
"""Tokens to look at."""


def near_ties(checkpoint: Path) -> NearTie:
    """A judge for one checkpoint; it is loaded when the first two texts differ."""
    loaded: list[_Greedy] = []

    def gap(prompt: str, one: str, other: str) -> float | None:
        if not loaded:
            loaded.append(_Greedy(checkpoint))
        return loaded[0].gap(prompt, one, other)

    return gap


class _Greedy:
    """The plainest decoding there is: one prompt, no cache, one token at a time."""

    def __init__(self, checkpoint: Path) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

        self.pairs = AutoConfig.from_pretrained(checkpoint).is_encoder_decoder
        loader = AutoModelForSeq2SeqLM if self.pairs else AutoModelForCausalLM
        self.model = loader.from_pretrained(checkpoint, dtype="float32").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)

    def gap(self, prompt: str, one: str, other: str) -> float | None:
        """Difference of the two best tokens' log-probabilities at the first step that the texts do not share."""
        import torch

        ids = self.tokenizer(prompt, return_tensors="pt").input_ids
        start = self.model.config.decoder_start_token_id if self.pairs else None
        written: list[int] = []
        gaps: list[float] = []
        with torch.no_grad():
            for _ in range(LONGEST):
                if self.pairs:
                    decoder = torch.tensor([[start, *written]])
                    scores = self.model(input_ids=ids, decoder_input_ids=decoder).logits[0, -1]
                else:
                    context = torch.cat([ids, torch.tensor([written], dtype=ids.dtype)], dim=1)
                    scores = self.model(context).logits[0, -1]
                best = scores.log_softmax(-1).topk(2)
                gaps.append(float(best.values[0] - best.values[1]))
                written.append(int(best.indices[0]))
                text = self.tokenizer.decode(written, skip_special_tokens=True)
                if not (one.startswith(text) and other.startswith(text)):
                    return min(gaps[-2:])  # a token may hold the end of what both share, and the start of what not
        return None
