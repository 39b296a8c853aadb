"""Prompts, answer likelihoods and greedy text of a causal language model, and what they say.

Importing this file loads neither torch nor transformers; `load`, `score` and `generate` do.
"""

from __future__ import annotations

import copy
import functools
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import patch

import numpy as np
from scipy.special import log_softmax, logsumexp

from hw2_utils import hub, progress, timing
from hw2_utils.errors import Hw2Error, explained, require

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

Tokens = tuple[int, ...]
Verdict = Literal["true", "false", "unparsed"]
Words = tuple[str, str]
TRUE_FALSE: tuple[Verdict, Verdict] = ("true", "false")

PLACE = "[text]"
_LINE_BREAKS = set("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
_OTHER_MODEL = (
    "name a causal language model: a folder with config, safetensors, tokenizer, or a .gguf file"
)
# What architectures call their context window.
_CONTEXT_NAMES = "max_position_embeddings n_positions max_seq_len seq_length context_length".split()
# What they call a window of attention, and the kinds of layers that padding can be hidden from.
_LOCAL = re.compile(
    "(sliding_|attention_|keep_)?window(_size)?|local_attention|attention_chunk_size|index_topk"
)
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
N_TRIAL = 18  # tokens of the longest row on which the ways to compute are tried
TRIAL_TOLERANCE = 1e-3  # nats; float32 differs by 5e-5 in the sample, a misplaced mask by 0.1


# ----------------------------------------------------------------------------------------- prompts
def fill(template: str, statement: str) -> str:
    """The template with its one `[text]` replaced by the statement, made `one_line`.

    Nothing else in the statement is interpreted: braces, quotes and a further `[text]` stay.
    Raises InputError if the template doesn't hold `[text]` exactly once.
    """
    require(
        template.count(PLACE) == 1,
        f"the template holds {PLACE} {template.count(PLACE)} times",
        where=repr(template),
        todo=f"write {PLACE} once, where the statement belongs",
    )
    return template.replace(PLACE, one_line(statement))


def one_line(statement: str) -> str:
    """The statement with each run of white space that holds a line break as one space.

    Unicode's line breaks too. Here a line break ends a shot, so a statement mustn't bring its own.
    """
    return re.sub(r"\s+", lambda run: " " if _LINE_BREAKS & set(run[0]) else run[0], statement)


# ------------------------------------------------------------------------------------------- model
@dataclass(frozen=True)
class LanguageModel:
    """A causal language model and its tokenizer.

    `max_tokens` is its context window; each of the tokens `end_ids` ends a text; `start_id` stands
    for "nothing before"; `prefix` is what its tokenizer puts before every text. Rows of up to
    `padded_tokens` may share a prefix and a padded batch without changing its numbers; it is
    computed with a key-value cache if `cached`. Its weights ask for no gradients.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    path: Path
    max_tokens: int
    start_id: int
    end_ids: frozenset[int]
    prefix: Tokens
    padded_tokens: float
    cached: bool = True

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, without chat template; control tokens spelt out stay plain text.

        What the tokenizer appends to a text (an end token) is left out: prompts and answers go on.
        """
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)
        return [self.prefix + tuple(ids) for ids in encoded["input_ids"]]

    def tensor(self, ids: Sequence[Any]) -> Tensor:
        """Token ids, or rows of them, where the model is."""
        import torch

        return torch.tensor(ids, device=self.model.device)

    def log_probs(self, inputs: Mapping[str, Any], *, n_last: int = 0) -> np.ndarray:
        """Log-probabilities float32 [batch, n_last, n_tokens] after the last tokens (0: all)."""
        options = {"logits_to_keep": n_last} if n_last else {}
        logits = self.model(**inputs, **options).logits[:, -n_last:]
        return logits.float().log_softmax(-1).cpu().numpy()


def load(path: Path | str, *, device: str = "cpu") -> LanguageModel:
    """A local folder (safetensors) or `.gguf` file as a float32 model that isn't trained.

    Whatever the checkpoint's own precision; GGUF weights are dequantised. Never touches the
    network, never runs the folder's code. Raises InputError for a folder that is incomplete,
    pickled, without tokenizer or asks for its own code, for a broken file, and for a device that
    isn't there.
    """
    path, device = Path(path), timing.resolve_device(device)
    check = functools.partial(require, where=path, todo=_OTHER_MODEL)
    if path.suffix == ".gguf":
        check(path.is_file() and path.open("rb").read(4) == b"GGUF", "there is no GGUF file here")
    else:
        _check_folder(path, check)
    # every reader has its own family of errors
    with explained("the model can't be read", where=path, todo=_OTHER_MODEL):
        model, tokenizer, report = _read(path)
    hub.check_loaded(report, where=path)
    check(tokenizer.eos_token, "the tokenizer has no end-of-text token")
    n_embeddings = model.get_input_embeddings().weight.shape[0]
    hub.check_vocabulary(tokenizer, n_embeddings, where=path)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.split_special_tokens = True  # "<|im_end|>" in a statement is text, no control token
    # A base model's config may have neither bos nor eos (phi-1_5's): the tokenizer's eos stands in.
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    ends = model.generation_config.eos_token_id
    lm = LanguageModel(
        model.eval().requires_grad_(False).to(device),
        tokenizer,
        path,
        max_tokens=_max_tokens(model, tokenizer),
        start_id=eos if bos is None else bos,
        end_ids=frozenset(np.ravel(eos if ends is None else ends).tolist()),
        prefix=_prefix(tokenizer, check),
        padded_tokens=_padded_tokens(model),
    )
    return _fastest(lm, check)


def _fastest(lm: LanguageModel, check: Callable[[object, str], None]) -> LanguageModel:
    """The fastest way to compute the model that gives the numbers of a plain forward pass."""
    with explained("the model can't be computed", where=lm.path, todo=_OTHER_MODEL):
        plain = {row: lm.log_probs({"input_ids": lm.tensor([row])})[0] for row in _trial_rows(lm)}
    n_shared = len(os.path.commonprefix([*plain]))
    causal = _same(*(log_probs[:n_shared] for log_probs in plain.values()))
    check(causal, "not a causal language model: a token's scores change with what follows it")
    ways = (lm, replace(lm, padded_tokens=0), replace(lm, padded_tokens=0, cached=False))
    right = next((way for way in ways if _agrees(way, plain)), None)
    check(right, "its scores in a batch, and one at a time, are not those of a plain forward pass")
    return right


def _max_tokens(model: Any, tokenizer: Any) -> int:
    """The context window by the architecture's name for it, else the tokenizer's, else none."""
    shape = model.config.get_text_config().to_dict()
    return next(
        (shape[name] for name in _CONTEXT_NAMES if shape.get(name)), tokenizer.model_max_length
    )


def _prefix(tokenizer: Any, check: Callable[[object, str], None]) -> Tokens:
    """The special tokens that the tokenizer puts before a text."""
    whole, bare = (tokenizer("a", add_special_tokens=on)["input_ids"] for on in (True, False))
    starts = [k for k in range(len(whole)) if whole[k : k + len(bare)] == bare]
    check(bare and starts, "its tokenizer's special tokens can't be told from a text's own")
    return tuple(whole[: starts[0]])


def _padded_tokens(model: Any) -> float:
    """How long rows may be for padding between a shared prefix and their own tokens to do nothing.

    In layers that see a window, padding pushes tokens out of it; other kinds hold a state.
    """
    shape = model.config.get_text_config().to_dict()
    if set(shape.get("layer_types") or ()) - _ATTENTION:
        return 0
    windows = [n for name, n in shape.items() if _LOCAL.fullmatch(name) and isinstance(n, int)]
    shortest = min((n for n in windows if n > 0), default=math.inf)
    return shortest if shortest >= N_TRIAL else 0


def _trial_rows(lm: LanguageModel) -> list[Tokens]:
    """Two rows of random tokens that begin alike."""
    words = sorted(set(range(len(lm.tokenizer))) - set(lm.tokenizer.all_special_ids))
    ids = np.random.default_rng(0).choice(words, N_TRIAL + 2).tolist()
    return [tuple(ids[:4] + ids[N_TRIAL:]), tuple(ids[: min(N_TRIAL, lm.max_tokens)])]


def _same(log_probs: Any, others: Any) -> bool:
    return np.allclose(log_probs, others, rtol=0, atol=TRIAL_TOLERANCE, equal_nan=True)


def _agrees(lm: LanguageModel, plain: Mapping[Tokens, np.ndarray]) -> bool:
    """Whether rows end on their plain log-probabilities, the last token as a step of its own."""
    rows = {row[:-1]: row for row in plain}
    try:
        with warnings.catch_warnings(action="ignore"):
            for batch, inputs in _batches(lm, dict.fromkeys(rows, 1), batch_size=2, room=1):
                ends = [plain[rows[start]][-2:] for start in batch]
                before_last = lm.log_probs(inputs, n_last=1)
                last = lm.tensor([rows[start][-1] for start in batch])
                inputs = _next_inputs(inputs, last, list(range(len(batch))))
                found = np.concatenate([before_last, lm.log_probs(inputs, n_last=1)], axis=1)
                if not _same(found, ends):
                    return False
    except (AttributeError, TypeError, ValueError, RuntimeError, KeyError, IndexError):
        return False  # the architecture doesn't take a cache, a mask or positions so
    return True


def _check_folder(path: Path, check: Callable[[object, str], None]) -> None:
    """Refuses a folder before any library reads it."""
    hub.check_folder(path)
    hub.check_tokenizer(path)
    kinds = json.loads((path / "config.json").read_text("utf-8")).get("architectures") or []
    check(any(path.glob("*.safetensors")), "its weights are pickled: convert them to safetensors")
    check(
        all(kind.endswith(("CausalLM", "LMHeadModel")) for kind in kinds),
        f"{', '.join(kinds)} is not a causal language model",
    )


def _read(path: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Model, tokenizer and what transformers says about the weights."""
    import gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    quantization = None
    if path.suffix == ".gguf":
        options["gguf_file"], quantization = path.name, GgufConfig(dequantize=True)
        path = path.parent
    # transformers parses a GGUF file's header and lists its names again and again, and its bar
    # can't be switched off.
    slow = ("GGUFReader", "get_tensor_name_map")
    once = {name: functools.cache(getattr(gguf, name)) for name in slow}
    bar = patch("transformers.modeling_gguf_pytorch_utils.tqdm", lambda tensors, **_: tensors)
    with bar, patch.multiple(gguf, **once):
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            dtype="float32",
            use_safetensors=True,
            quantization_config=quantization,
            output_loading_info=True,
            **options,
        )
        return model, AutoTokenizer.from_pretrained(path, **options), report


# ----------------------------------------------------------------------------------------- batches
def _apart(
    lm: LanguageModel, rows: Collection[Tokens], *, room: int, batch_size: int
) -> tuple[int, int]:
    """How many of the longest rows share no prefix, and how many of those may share a batch.

    Those are the rows that are cut, and those that padding would change.
    """
    limit = lm.max_tokens - room
    n_long = sum(len(row) > limit for row in rows)
    n_alone = sum(len(row) + room > lm.padded_tokens for row in rows)
    if n_long:
        what = f"{n_long} of {len(rows)} inputs exceed {limit} tokens: start cut off"
        warnings.warn(what, stacklevel=4)
    if n_alone > n_long:
        warnings.warn(
            f"{n_alone} of {len(rows)} inputs are computed one at a time: layers of "
            f"{lm.model.config.model_type} see only the tokens next to a token, or hold a state",
            stacklevel=4,
        )
    return max(n_long, n_alone), 1 if n_alone else batch_size


def _batches(
    lm: LanguageModel,
    needed: Mapping[Tokens, int],
    *,
    batch_size: int,
    room: int = 0,
    share_prefix: bool = True,
) -> Iterator[tuple[list[Tokens], dict[str, Any]]]:
    """(rows, model inputs) of each batch: rows of like length together, longest first.

    `needed`: row -> how many of its last tokens must stay outside the prefix that all rows share.
    Rows that don't leave `room` in the context window lose their start, with a warning, and share
    nothing. Rows longer than `lm.padded_tokens` are batches of their own, and a warning counts
    them.
    """
    limit = lm.max_tokens - room
    what = f"{room} new tokens fill the context window"
    require(limit > 0, what, where=lm.path, todo="ask for fewer")
    rows = sorted(needed, key=len, reverse=True)
    n_apart, n_at_once = _apart(lm, rows, room=room, batch_size=batch_size)
    apart, together, prefix = rows[:n_apart], rows[n_apart:], ()
    if share_prefix and len(together) > 1:
        prefix = os.path.commonprefix(together)[: min(len(row) - needed[row] for row in together)]
    with progress.bar(len(rows), "prompts") as bar:
        for group, size, shared in ((apart, n_at_once, ()), (together, batch_size, prefix)):
            cache = _cached(lm, shared)
            for start in range(0, len(group), size):
                batch = group[start : start + size]
                yield batch, _inputs(lm, [row[len(shared) :][-limit:] for row in batch], cache)
                bar.update(len(batch))


def _cached(lm: LanguageModel, prefix: Tokens) -> Cache | None:
    """The key-value cache after a prefix; None for none."""
    if not prefix:
        return None
    return lm.model(input_ids=lm.tensor([prefix]), use_cache=True, logits_to_keep=1).cache


def _inputs(
    lm: LanguageModel, suffixes: Sequence[Tokens], prefix_cache: Cache | None
) -> dict[str, Any]:
    """Model inputs of left-padded suffixes [batch, longest], each after a copy of the cache."""
    import torch
    from transformers import DynamicCache

    rows = {"input_ids": [list(suffix) for suffix in suffixes]}
    options = {"padding_side": "left", "return_attention_mask": True, "return_tensors": "pt"}
    padded = lm.tokenizer.pad(rows, verbose=False, **options).to(lm.model.device)
    ids, mask = padded["input_ids"], padded["attention_mask"]
    if not lm.cached:
        return {"input_ids": ids, "use_cache": False}
    cache, n_prefix = DynamicCache(config=lm.model.config), 0
    if prefix_cache:
        cache = copy.deepcopy(prefix_cache)
        n_prefix = cache.get_seq_length()
        cache.batch_repeat_interleave(len(suffixes))
    return {
        "input_ids": ids,
        "position_ids": n_prefix + (mask.cumsum(1) - 1).clamp(min=0),
        "attention_mask": torch.nn.functional.pad(mask, (n_prefix, 0), value=1),
        "cache": cache,
        "use_cache": True,
    }


def _next_inputs(inputs: dict[str, Any], tokens: Tensor, going: list[int]) -> dict[str, Any]:
    """Model inputs for the next token of the rows `going` of a batch, after `tokens` [batch]."""
    import torch

    if "cache" not in inputs:
        return inputs | {"input_ids": torch.cat([inputs["input_ids"], tokens[:, None]], 1)[going]}
    if len(going) < len(tokens):
        inputs["cache"].batch_select_indices(torch.tensor(going, device=tokens.device))
    mask, last = inputs["attention_mask"][going], inputs["position_ids"][going, -1:]
    return inputs | {
        "input_ids": tokens[going, None],
        "position_ids": last + 1,
        "attention_mask": torch.nn.functional.pad(mask, (0, 1), value=1),
    }


# ------------------------------------------------------------------------------------- preferences
def score(
    lm: LanguageModel,
    prompts: Sequence[str],
    answers: Sequence[str] = (" True", " False"),
    *,
    batch_size: int = 16,
    share_prefix: bool = True,
) -> np.ndarray:
    """Log-likelihood of each answer after each prompt: float64 [n_prompts, n_answers], in nats.

    The sum of log P(token | all before it) over an answer's tokens. Prompt and answer are encoded
    jointly, and blanks at a prompt's end count to the answer, as in lm-evaluation-harness
    (`_encode_pair`); an empty prompt is the start token. Overlong prompts lose their start, with a
    warning that counts them. What all prompts begin with is computed once (`share_prefix`), and so
    are equal inputs. Raises InputError for an answer without tokens or longer than the window,
    Hw2Error for NaN or infinity.
    """
    scores, wanted = np.zeros((len(prompts), len(answers))), _wanted(lm, prompts, answers)
    needed = {row: max(len(answer) for *_, answer in reads) for row, reads in wanted.items()}
    batches = _batches(lm, needed, batch_size=batch_size, share_prefix=share_prefix)
    for batch, inputs in batches:
        found = lm.log_probs(inputs, n_last=max(needed[row] for row in batch))
        for row, log_probs in zip(batch, found, strict=True):
            for prompt, column, answer in wanted[row]:
                at_answer = log_probs[range(-len(answer), 0), answer]
                scores[prompt, column] = at_answer.sum(dtype=float)
    if not np.isfinite(scores).all():
        what = "the model gives scores that aren't numbers"
        raise Hw2Error(what, where=lm.path, todo="use dtype float32")
    return scores


def _wanted(
    lm: LanguageModel, prompts: Sequence[str], answers: Sequence[str]
) -> dict[Tokens, list[tuple[int, int, Tokens]]]:
    """Model input -> what is read from it: (prompt, answer, answer tokens).

    Answers of one token share an input.
    """
    contexts = lm.encode([prompt.rstrip() for prompt in prompts])
    wholes = lm.encode([prompt + answer for prompt in prompts for answer in answers])
    wanted: dict[Tokens, list[tuple[int, int, Tokens]]] = {}
    for k, whole in enumerate(wholes):
        prompt, column = divmod(k, len(answers))
        answer = whole[len(contexts[prompt]) :]
        require(
            0 < len(answer) <= lm.max_tokens,
            f"answer {answers[column]!r} adds {len(answer)} tokens to prompt {prompt + 1}",
            where=lm.path,
            todo="use an answer that adds at least one token and fits the context window",
        )
        context = contexts[prompt] or (lm.start_id,)
        wanted.setdefault(context + answer[:-1], []).append((prompt, column, answer))
    return wanted


# -------------------------------------------------------------------------------------------- text
def generate(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 32,
    batch_size: int = 32,
    stop: Sequence[str] = ("\n",),
) -> list[str]:
    """The greedy continuation of each prompt alone, cut before the first stop string."""
    tokens = generate_tokens(
        lm, prompts, max_new_tokens=max_new_tokens, stop=stop, batch_size=batch_size
    )
    texts = lm.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [text[: min((text.find(s) for s in stop if s in text), default=None)] for text in texts]


def generate_tokens(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = 32,
    stop: Sequence[str] = (),
    share_prefix: bool = True,
) -> list[list[int]]:
    """Greedy new tokens of each prompt, up to an end token or one that completes a stop string.

    That token is among them. In float32 the tokens of transformers' text-generation pipeline with
    do_sample=False, one prompt a time. Overlong prompts lose their start, with a warning that
    counts them. Equal prompts are computed once.
    """
    contexts = [ids or (lm.start_id,) for ids in lm.encode(prompts)]
    batches = _batches(
        lm,
        dict.fromkeys(contexts, 1),
        batch_size=batch_size,
        room=max_new_tokens,
        share_prefix=share_prefix,
    )
    texts: dict[Tokens, list[int]] = {}
    for batch, inputs in batches:
        texts |= zip(batch, _greedy(lm, inputs, max_new_tokens, stop), strict=True)
    return [texts[context] for context in contexts]


def _greedy(
    lm: LanguageModel, inputs: dict[str, Any], n_tokens: int, stop: Sequence[str]
) -> list[list[int]]:
    """New tokens of each row of a batch; a row that is finished leaves it.

    transformers' batched `generate`, after a copy of the prefix's cache, gives the same tokens, but
    computes finished rows on until the last one ends: up to twice as long for few-shot prompts.
    """
    texts: list[list[int]] = [[] for _ in inputs["input_ids"]]
    live = texts
    for _ in range(n_tokens):
        tokens = lm.model(**inputs, logits_to_keep=1).logits[:, -1].argmax(-1)
        for text, token in zip(live, tokens.tolist(), strict=True):
            text.append(token)
        decoded = lm.tokenizer.batch_decode(live)
        going = [
            k
            for k, ids in enumerate(live)
            if ids[-1] not in lm.end_ids and not any(s in decoded[k] for s in stop)
        ]
        if not going:
            break
        live = [live[k] for k in going]
        inputs = _next_inputs(inputs, tokens, going)
    return texts


def token_probabilities(lm: LanguageModel, prompt: str, text: str) -> list[tuple[str, float]]:
    """Each token of a text after a prompt, with its probability given all before it.

    Blanks that end the prompt count to the text.
    """
    context, whole = lm.encode([prompt.rstrip(), prompt + text])
    if not context:
        context, whole = (lm.start_id,), (lm.start_id, *whole)
    log_probs = lm.log_probs({"input_ids": lm.tensor([whole])})[0]
    return [
        (lm.tokenizer.decode(whole[i]), math.exp(log_probs[i - 1, whole[i]]))
        for i in range(len(context), len(whole))
    ]


# ---------------------------------------------------------------------------------------- verdicts
_SYNONYMS = {TRUE_FALSE: (("correct", "accurate"), ("untrue", "incorrect", "inaccurate", "wrong"))}
_NOT = (
    r"(?:\b(?:not(?!\s+(?:only|just)\b)|never|cannot|neither|hardly)|n['’]t)\s+(?:[\w'’]+\s+){0,3}?"
)
_DESCRIBES = r"(?!\s+(?:answer|response|option|choice|way|version)\b)"


def parse_verdict(text: str, *, strict: bool, words: Words = TRUE_FALSE) -> Verdict:
    """What a text says: "true" for words[0], "false" for words[1], else "unparsed".

    Letter case doesn't matter. Strict: the first word is one of the two, whatever quotes, asterisks
    and punctuation are around it. Lenient: the first verdict anywhere. For true/false also correct,
    accurate / untrue, incorrect, inaccurate, wrong, unless they describe an answer ("the correct
    answer is"). At most three words after not, never, cannot, neither, hardly or n't a verdict is
    turned round: "isn't entirely true" is false; "not only" and "not just" turn nothing. Either way
    an echoed "true or false" is no verdict.
    """
    if not strict:
        return next(_verdicts(text, words), "unparsed")
    first = re.match(r"[\W_]*([^\W_]+)(?![-'’]\w)", _without_echo(text, words))
    word = first[1].casefold() if first else ""
    return TRUE_FALSE[words.index(word)] if word in words else "unparsed"


def quality(text: str) -> dict[str, float | int | bool]:
    """`n_words`, `repeated_3gram_share` and `contradicts` of a text.

    The share is 1 - distinct / all 3-grams of lower-cased words (seq-rep-3 of Welleck et al. 2020,
    arXiv 1908.04319), 0 below three words. A text contradicts itself if it holds both verdicts,
    read as the lenient `parse_verdict` does.
    """
    tokens = re.findall(r"\w+(?:['’-]\w+)*", text.casefold())
    grams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return {
        "n_words": len(tokens),
        "repeated_3gram_share": 1 - len(set(grams)) / len(grams) if grams else 0.0,
        "contradicts": len(set(_verdicts(text, TRUE_FALSE))) == 2,
    }


def _without_echo(text: str, words: Words) -> str:
    either = "|".join(map(re.escape, words))
    return re.sub(
        rf"\b(?:{either})\s*(?:/|\b(?:or|and|nor)\b)\s*(?:{either})\b",
        "either",
        text,
        flags=re.IGNORECASE,
    )


def _verdicts(text: str, words: Words) -> Iterator[Verdict]:
    """Every verdict in reading order, negations applied."""
    yes, no = _SYNONYMS.get(words, ((), ()))
    sides = {words[0]: 0, words[1]: 1, **dict.fromkeys(yes, 0), **dict.fromkeys(no, 1)}
    forms = "|".join([*map(re.escape, words), *(word + _DESCRIBES for word in (*yes, *no))])
    for found in re.finditer(
        rf"({_NOT})?(?<![^\W_])({forms})(?![^\W_])", _without_echo(text, words), re.IGNORECASE
    ):
        yield TRUE_FALSE[sides[found[2].casefold()] ^ bool(found[1])]


# ------------------------------------------------------------------------------------- calibration
def normalised(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities among the answers: log softmax of each row of [n_prompts, n_answers]."""
    return log_softmax(np.asarray(scores, dtype=float), axis=1)


def contextual_calibration(scores: np.ndarray, null_scores: np.ndarray) -> np.ndarray:
    """Log-probabilities [n_prompts, n_answers] with the prompt's own leaning divided out.

    q(y|x) = p(y|x) / p_null(y), normalised over y, where p = softmax(scores) and p_null is the mean
    of softmax(null_scores) over content-free inputs such as "N/A", "" and "[MASK]" put into the
    same template (Zhao et al. 2021, arXiv 2102.09690: W = diag(p_null)^-1, b = 0; the same argmax
    as theirs).
    """
    prior = logsumexp(normalised(null_scores), axis=0) - np.log(len(null_scores))
    return normalised(normalised(scores) - prior)


def batch_calibration(scores: np.ndarray) -> np.ndarray:
    """As `contextual_calibration`, with the scored batch as null inputs: p_null(y) = mean p(y|x).

    Needs no labels (Zhou et al. 2023, arXiv 2309.17249); pulls the share of each answer towards an
    equal one.
    """
    return contextual_calibration(scores, scores)
