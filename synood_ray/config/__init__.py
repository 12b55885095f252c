"""Every setting with its meaning, the presets, and what makes two runs the same."""

from synood_ray.config.fields import Section
from synood_ray.config.models import DescriberSettings, InpainterSettings, LabelSettings, ScorerSettings
from synood_ray.config.pools import FarmSettings, PoolSettings
from synood_ray.config.sampling import PromptSettings, SamplingSettings
from synood_ray.config.serving import ReplicaSettings, ServingSettings
from synood_ray.config.settings import DataSettings, DetectorSettings, EvaluationSettings, Settings, TrainingSettings

__all__ = [
    "DataSettings",
    "DescriberSettings",
    "DetectorSettings",
    "EvaluationSettings",
    "FarmSettings",
    "InpainterSettings",
    "LabelSettings",
    "PoolSettings",
    "PromptSettings",
    "ReplicaSettings",
    "SamplingSettings",
    "ScorerSettings",
    "Section",
    "ServingSettings",
    "Settings",
    "TrainingSettings",
]
