"""The keys of the released `config.json`, and which of them belong to other tools."""

from __future__ import annotations

MODEL_TYPE, TEXT_TYPE, VISION_TYPE = "interns1_pro", "interns1_pro_text", "interns1_pro_vision"
TS_TYPE = "interns1_pro_time_series"
TS_TYPES = (TS_TYPE, "interns1_time_series", "intern_time_series_encoder", "whisper", None)
"""What the module is called in configurations of its family; older ones do not name it."""

ARCHITECTURE = "InternS1ProForConditionalGeneration"
ARCHITECTURES = (ARCHITECTURE, "InternS1_1_ForConditionalGeneration")

FOREIGN = frozenset(
    {
        "auto_map",
        "transformers_version",
        "golden",
        "dtype",
        "torch_dtype",
        "_name_or_path",
        "_commit_hash",
        "use_cache",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_autoset",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "return_dict",
        "chunk_size_feed_forward",
        "id2label",
        "label2id",
        "problem_type",
        "is_encoder_decoder",
        "router_aux_loss_coef",
        "pad_token_id",
        "task_specific_params",
        "finetuning_task",
        "processor_class",
        "hf_overrides",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
    }
)
"""Keys of other tools: kept by whoever rewrites a folder, without effect here."""

TS_FOREIGN = frozenset(
    {
        "activation_dropout",
        "apply_spec_augment",
        "attention_dropout",
        "begin_suppress_tokens",
        "bos_token_id",
        "classifier_proj_size",
        "decoder_attention_heads",
        "decoder_ffn_dim",
        "decoder_layerdrop",
        "decoder_layers",
        "decoder_start_token_id",
        "dropout",
        "encoder_layerdrop",
        "eos_token_id",
        "init_std",
        "mask_feature_length",
        "mask_feature_min_masks",
        "mask_feature_prob",
        "mask_time_length",
        "mask_time_min_masks",
        "mask_time_prob",
        "max_length",
        "max_target_positions",
        "median_filter_width",
        "num_hidden_layers",
        "suppress_tokens",
        "ts_cnn_channels",
        "ts_cnn_kernel_sizes",
        "ts_cnn_paddings",
        "ts_cnn_strides",
        "ts_concat_subsampling_concat_size",
        "ts_concat_subsampling_in_channels",
        "use_flash_attn",
        "use_weighted_layer_sum",
        "vocab_size",
    }
)
"""Keys of `ts_config` about a speech decoder, masking, dropout or an older front end: nothing of this module."""

PARTS = ("text_config", "vision_config", "ts_config")
FIXED = {"hidden_act": "silu", "attention_dropout": 0.0, "tie_word_embeddings": False}
"""Keys whose only supported value is this one."""

TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "moe_intermediate_size",
    "intermediate_size",
    "decoder_sparse_step",
    "rms_norm_eps",
    "attention_bias",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
)
VISION_FIELDS = (
    "depth",
    "hidden_size",
    "num_heads",
    "intermediate_size",
    "in_channels",
    "patch_size",
    "temporal_patch_size",
    "spatial_merge_size",
    "num_position_embeddings",
    "out_hidden_size",
    "hidden_act",
    "initializer_range",
)
TS_FIELDS = (
    "d_model",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "max_source_positions",
    "num_mel_bins",
    "ts_adapt_in_dim",
    "ts_adapt_out_dim",
    "ts_hidden_dim",
    "out_hidden_size",
    "activation_function",
    "scale_embedding",
)
_TS_OURS = ("subsampling_attention_heads", "subsampling_ffn_dim", "separate_channels", "initializer_range")
TS_EXTRAS = {name: name for name in _TS_OURS}
ROUTER_EXTRAS = {  # our key in text_config -> RouterConfig field
    "router_straight_through": "straight_through",
    "router_temperature": "temperature",
    "router_gate_dtype": "gate_dtype",
    "router_weight_dtype": "weight_dtype",
    "router_renorm_eps": "renorm_eps",
}
ROPE_EXTRAS = {"fope_pad_value": "pad_value", "fope_learnable": "learnable"}
TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
TS_TOKENS = ("ts_token_id", "ts_start_token_id", "ts_end_token_id")
