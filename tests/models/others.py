"""More families of `transformers` that users would try, one callable each, at toy size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import transformers as hf
from toy import (
    BATCH,
    HEADS,
    HIDDEN,
    SEQ,
    VOCAB,
    causal_lm,
    image_classifier,
    masked_lm,
    seq_to_seq,
    tokens,
    workload,
)

import superscaler as ss

Family = Callable[..., ss.Workload]

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = SPECIAL | {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "max_position_embeddings": SEQ,
}
GROUPED = DECODER | {"num_key_value_heads": HEADS // 2}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ENCODER = DECODER | NO_DROPOUT
LATE_POSITIONS = {"max_position_embeddings": SEQ + 2}  # RoBERTa counts from the pad token's id
VISION = {
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 8,
} | NO_DROPOUT
BART = {
    "vocab_size": VOCAB,
    "d_model": HIDDEN,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": 2 * HIDDEN,
    "decoder_ffn_dim": 2 * HIDDEN,
    "max_position_embeddings": SEQ,
    "dropout": 0.0,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "encoder_layerdrop": 0.0,  # skipping a layer at random is data-dependent control flow
    "decoder_layerdrop": 0.0,
}


def _family(task: Callable[..., ss.Workload], model: str, config: str, **sizes: Any) -> Family:
    """A callable of keyword arguments `batch`, `dtype` and any entry of the config."""

    def family(
        batch: int = BATCH, dtype: torch.dtype = torch.float32, **others: Any
    ) -> ss.Workload:
        built = getattr(hf, config)(**(sizes | others))
        return task(getattr(hf, model), built, dtype, batch)

    return family


def _clip(kind: Any, config: Any, dtype: torch.dtype, batch: int) -> ss.Workload:
    torch.manual_seed(1)
    ids = tokens(batch, SEQ)
    ids[:, -1] = VOCAB - 1
    images = torch.randn(batch, 3, 32, 32)
    made = workload(kind, config, dtype, input_ids=ids, pixel_values=images)
    return replace(made, step=lambda model, inputs: model(**inputs, return_loss=True).loss)


def _speech(kind: Any, config: Any, dtype: torch.dtype, batch: int) -> ss.Workload:
    torch.manual_seed(1)
    labels = torch.randint(config.num_labels, (batch,))
    return workload(kind, config, dtype, input_values=torch.randn(batch, 640), labels=labels)


def _regression(kind: Any, config: Any, dtype: torch.dtype, batch: int) -> ss.Workload:
    torch.manual_seed(1)
    labels = torch.randn(batch, 1)
    return workload(kind, config, dtype, input_ids=tokens(batch, SEQ), labels=labels)


# Decoders.
qwen2 = _family(causal_lm, "Qwen2ForCausalLM", "Qwen2Config", **GROUPED)
qwen3 = _family(causal_lm, "Qwen3ForCausalLM", "Qwen3Config", head_dim=8, **GROUPED)
gemma = _family(causal_lm, "GemmaForCausalLM", "GemmaConfig", head_dim=8, **GROUPED)
gemma2 = _family(
    causal_lm, "Gemma2ForCausalLM", "Gemma2Config", head_dim=8, sliding_window=8, **GROUPED
)
mistral = _family(causal_lm, "MistralForCausalLM", "MistralConfig", sliding_window=8, **GROUPED)
phi = _family(causal_lm, "PhiForCausalLM", "PhiConfig", **DECODER)
phi3 = _family(causal_lm, "Phi3ForCausalLM", "Phi3Config", **GROUPED)
olmo2 = _family(causal_lm, "Olmo2ForCausalLM", "Olmo2Config", **GROUPED)
starcoder2 = _family(causal_lm, "Starcoder2ForCausalLM", "Starcoder2Config", **GROUPED)
stablelm = _family(causal_lm, "StableLmForCausalLM", "StableLmConfig", **GROUPED)
gpt_neox = _family(causal_lm, "GPTNeoXForCausalLM", "GPTNeoXConfig", **DECODER)
gptj = _family(
    causal_lm,
    "GPTJForCausalLM",
    "GPTJConfig",
    vocab_size=VOCAB,
    n_embd=HIDDEN,
    n_layer=2,
    n_head=HEADS,
    n_positions=SEQ,
    rotary_dim=4,
    **SPECIAL,
)
gpt_neo = _family(
    causal_lm,
    "GPTNeoForCausalLM",
    "GPTNeoConfig",
    vocab_size=VOCAB,
    hidden_size=HIDDEN,
    num_layers=2,
    num_heads=HEADS,
    attention_types=[[["global", "local"], 1]],
    max_position_embeddings=SEQ,
    window_size=8,
    **SPECIAL,
)
opt = _family(
    causal_lm,
    "OPTForCausalLM",
    "OPTConfig",
    vocab_size=VOCAB,
    hidden_size=HIDDEN,
    ffn_dim=2 * HIDDEN,
    num_hidden_layers=2,
    num_attention_heads=HEADS,
    max_position_embeddings=SEQ,
    word_embed_proj_dim=HIDDEN,
    dropout=0.0,
)
bloom = _family(
    causal_lm,
    "BloomForCausalLM",
    "BloomConfig",
    vocab_size=VOCAB,
    hidden_size=HIDDEN,
    n_layer=2,
    n_head=HEADS,
)
falcon = _family(
    causal_lm,
    "FalconForCausalLM",
    "FalconConfig",
    vocab_size=VOCAB,
    hidden_size=HIDDEN,
    num_hidden_layers=2,
    num_attention_heads=HEADS,
    **SPECIAL,
)
mpt = _family(
    causal_lm,
    "MptForCausalLM",
    "MptConfig",
    vocab_size=VOCAB,
    d_model=HIDDEN,
    n_layers=2,
    n_heads=HEADS,
)
qwen2_moe = _family(
    causal_lm,
    "Qwen2MoeForCausalLM",
    "Qwen2MoeConfig",
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=HIDDEN,
    shared_expert_intermediate_size=HIDDEN,
    output_router_logits=True,
    **GROUPED,
)
mamba = _family(
    causal_lm,
    "MambaForCausalLM",
    "MambaConfig",
    vocab_size=VOCAB,
    hidden_size=HIDDEN,
    num_hidden_layers=2,
    state_size=4,
    **SPECIAL,
)

# Encoders.
roberta = _family(
    masked_lm,
    "RobertaForMaskedLM",
    "RobertaConfig",
    **ENCODER | LATE_POSITIONS,
)
electra = _family(masked_lm, "ElectraForMaskedLM", "ElectraConfig", embedding_size=16, **ENCODER)
albert = _family(masked_lm, "AlbertForMaskedLM", "AlbertConfig", embedding_size=16, **ENCODER)
mpnet = _family(masked_lm, "MPNetForMaskedLM", "MPNetConfig", **ENCODER | LATE_POSITIONS)
deberta = _family(
    masked_lm,
    "DebertaV2ForMaskedLM",
    "DebertaV2Config",
    relative_attention=True,
    pos_att_type=["p2c", "c2p"],
    position_buckets=8,
    norm_rel_ebd="layer_norm",
    **ENCODER,
)
distilbert = _family(
    masked_lm,
    "DistilBertForMaskedLM",
    "DistilBertConfig",
    vocab_size=VOCAB,
    dim=HIDDEN,
    hidden_dim=2 * HIDDEN,
    n_layers=2,
    n_heads=HEADS,
    max_position_embeddings=SEQ,
    dropout=0.0,
    attention_dropout=0.0,
)
modernbert = _family(
    masked_lm,
    "ModernBertForMaskedLM",
    "ModernBertConfig",
    cls_token_id=1,
    sep_token_id=2,
    local_attention=8,
    **DECODER,
)
bert_regression = _family(
    _regression, "BertForSequenceClassification", "BertConfig", num_labels=1, **ENCODER
)

# Encoders with decoders.
bart = _family(seq_to_seq, "BartForConditionalGeneration", "BartConfig", **BART)
pegasus = _family(seq_to_seq, "PegasusForConditionalGeneration", "PegasusConfig", **BART)
marian = _family(seq_to_seq, "MarianMTModel", "MarianConfig", **BART)
m2m100 = _family(
    seq_to_seq, "M2M100ForConditionalGeneration", "M2M100Config", attention_dropout=0.0, **BART
)

# Vision, speech, and both text and images.
deit = _family(image_classifier, "DeiTForImageClassification", "DeiTConfig", **VISION)
beit = _family(
    image_classifier, "BeitForImageClassification", "BeitConfig", drop_path_rate=0.0, **VISION
)
dinov2 = _family(image_classifier, "Dinov2ForImageClassification", "Dinov2Config", **VISION)
convnext = _family(
    image_classifier,
    "ConvNextForImageClassification",
    "ConvNextConfig",
    hidden_sizes=[16, 32],
    depths=[2, 2],
    num_stages=2,
    num_labels=8,
)
regnet = _family(
    image_classifier,
    "RegNetForImageClassification",
    "RegNetConfig",
    embedding_size=8,
    hidden_sizes=[16, 32],
    depths=[2, 2],
    groups_width=8,
    num_labels=8,
)
mobilenet_v2 = _family(
    image_classifier,
    "MobileNetV2ForImageClassification",
    "MobileNetV2Config",
    image_size=32,
    depth_multiplier=0.25,
    num_labels=8,
    classifier_dropout_prob=0.0,
)
wav2vec2 = _family(
    _speech,
    "Wav2Vec2ForSequenceClassification",
    "Wav2Vec2Config",
    hidden_size=HIDDEN,
    intermediate_size=2 * HIDDEN,
    num_hidden_layers=2,
    num_attention_heads=HEADS,
    conv_dim=[16, 16],
    conv_stride=[5, 4],
    conv_kernel=[10, 4],
    num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=4,
    classifier_proj_size=16,
    num_labels=8,
    apply_spec_augment=False,
    layerdrop=0.0,
    hidden_dropout=0.0,
    activation_dropout=0.0,
    attention_dropout=0.0,
    feat_proj_dropout=0.0,
)
clip = _family(
    _clip,
    "CLIPModel",
    "CLIPConfig",
    projection_dim=16,
    text_config=DECODER | {"eos_token_id": VOCAB - 1},
    vision_config={k: v for k, v in VISION.items() if k not in NO_DROPOUT},
)
