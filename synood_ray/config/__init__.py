"""Every setting with its meaning, the presets, and what makes two runs the same."""

from synood_ray.config.settings import (
    DataSettings,
    DescriberSettings,
    DetectorSettings,
    EvaluationSettings,
    FarmSettings,
    InpainterSettings,
    LabelSettings,
    PoolSettings,
    SamplingSettings,
    ScorerSettings,
    Section,
    Settings,
    TrainingSettings,
)

__all__ = [
    "DataSettings",
    "DescriberSettings",
    "DetectorSettings",
    "EvaluationSettings",
    "FarmSettings",
    "InpainterSettings",
    "LabelSettings",
    "PoolSettings",
    "SamplingSettings",
    "ScorerSettings",
    "Section",
    "Settings",
    "TrainingSettings",
]
