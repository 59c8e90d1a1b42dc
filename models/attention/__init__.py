"""Attention mechanisms behind one interface, one file a family; each enters ``attentions`` under its name."""

from configs.registry import import_parts
from models.attention.base import Attention, AttentionConfig, Pairs, ScoredAttention, attentions

import_parts("models.attention")

__all__ = ["Attention", "AttentionConfig", "Pairs", "ScoredAttention", "attentions"]
