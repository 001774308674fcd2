"""Family ``hf``: image classification of transformers, ``hf:FOLDER`` or ``hf:OWNER/NAME`` of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cfalign._errors import BadInput
from cfalign._models.extras import imported
from cfalign.classifiers.families.checkpoint import refuse_code
from cfalign.classifiers.families.class_names import class_targets
from cfalign.classifiers.families.foreign_library import library_call
from cfalign.classifiers.preprocessing import Interpolation, Preprocessing
from cfalign.classifiers.wrapped_classifier import WrappedClassifier, wrap

FILTERS: Mapping[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
LEVELS = 2.0  # of 255, by which 8-bit rounding may move a pixel
WARPED = 384  # from this size on ConvNeXt's processor stretches instead of cropping


class HeadOnly(nn.Module):
    """The logits of a transformers model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[n, class]."""
        return self.model(pixel_values=pixel_values).logits  # type: ignore[no-any-return]


def load(name: str, *, trust: bool = False) -> WrappedClassifier:
    """A classifier of transformers with its image processor, whose result is compared with ours on an image.

    Softmax over the classes of ``id2label``; a sigmoid each where ``problem_type`` is multi-label or there is one.
    A folder never touches the network. ``trust``: whether code that comes with the model may run.

    Raises BadInput when something is missing, weights do not fit, or the processor does what cfalign cannot.
    """
    transformers = imported("transformers", extra="hf")
    folder = Path(name).expanduser()
    local = bool(name) and folder.is_dir()
    if not local and (name.startswith(("/", ".", "~")) or name.count("/") > 1 or not name):
        raise BadInput(f"There is no folder {name!r}; expected hf:FOLDER or hf:OWNER/NAME of the hub.")
    if local and not trust:
        refuse_code(folder)
    source = str(folder) if local else name
    common: dict[str, Any] = {"local_files_only": local, "trust_remote_code": trust}
    kind = "expected a folder with config.json, preprocessor_config.json and model.safetensors"
    with library_call(f"The model hf:{name}", instead=kind if local else f"{kind}, or a name of the hub and a network"):
        processor = transformers.AutoImageProcessor.from_pretrained(source, **common)
        model, report = transformers.AutoModelForImageClassification.from_pretrained(
            source, output_loading_info=True, dtype=torch.float32, **common
        )
    _check_weights(name, report)
    for module in model.modules():
        if hasattr(module, "name_or_path"):
            module.name_or_path = module.config._name_or_path = ""  # where it lies decides no answer
    model.eval().requires_grad_(False)
    prepare = preprocessing(processor, channels=int(getattr(model.config, "num_channels", 3)))
    link, targets = _head(name, model.config)
    return wrap(HeadOnly(model), targets, link=link, prepare=prepare, name=Path(source).name)


def _check_weights(name: str, report: Mapping[str, Any]) -> None:
    for what in ("missing", "unexpected", "mismatched"):
        keys = sorted(str(k) for k in report.get(f"{what}_keys", ()))
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise BadInput(
                f"The weights of hf:{name} do not fit its classifier: {what} {', '.join(keys[:3])}{more}; expected a "
                "model saved with its classification head."
            )


def _head(name: str, config: Any) -> tuple[Any, tuple[str, ...]]:
    if config.problem_type == "regression":
        raise BadInput(f"hf:{name} is a regression, expected a classification.")
    labels = [config.id2label[i] for i in range(config.num_labels)]
    sigmoid = config.problem_type == "multi_label_classification" or len(labels) == 1
    return ("sigmoid" if sigmoid else "softmax"), class_targets(labels)


def preprocessing(processor: Any, *, channels: int) -> Preprocessing:
    """The same steps as an image processor of transformers, on float images.

    Raises BadInput when its settings are unknown here, or an image does not come out the same but for 8-bit rounding.
    """
    kind = type(processor).__name__
    settings = processor.to_dict()
    resize, crop = _sizes(settings, kind)
    resample = settings.get("resample")
    if resize is not None and resample not in FILTERS:
        raise BadInput(f"{kind} resizes by Pillow's filter {resample}; expected one of {sorted(FILTERS)}.")
    mean, std = _normalisation(settings, channels)
    steps = Preprocessing(
        channels=channels,
        resize=resize,
        interpolation=FILTERS[int(resample)] if resize is not None else "bilinear",
        clip=True,
        crop=crop,
        crop_down=True,
        mean=mean,
        std=std,
    )
    _check_steps(steps, processor, kind)
    return steps


def _sizes(settings: Mapping[str, Any], kind: str) -> tuple[int | tuple[int, int] | None, tuple[int, int] | None]:
    resize: int | tuple[int, int] | None = None
    crop = None
    if settings.get("do_center_crop"):
        side = settings["crop_size"]
        crop = (int(side["height"]), int(side["width"]))
    if settings.get("do_resize"):
        size = settings["size"]
        if size.get("height") and size.get("width"):
            resize = (int(size["height"]), int(size["width"]))
        elif size.get("shortest_edge") and not size.get("longest_edge"):
            resize = int(size["shortest_edge"])
        else:
            raise BadInput(f"{kind} resizes to {dict(size)}; expected height and width, or the shortest edge.")
        if settings.get("crop_pct") and isinstance(resize, int):  # as ConvNeXt's processor means it
            square = (resize, resize)
            resize, crop = (square, crop) if resize >= WARPED else (int(resize / settings["crop_pct"]), square)
    return resize, crop


def _normalisation(settings: Mapping[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of images in [0, 1], from those of what the processor has rescaled."""
    scale = 255.0 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255.0
    offset = 1.0 if settings.get("rescale_offset") else 0.0
    mean, std = [0.0] * channels, [1.0] * channels
    if settings.get("do_normalize"):
        mean, std = (_each(settings[f"image_{part}"], channels) for part in ("mean", "std"))
    again = std if settings.get("include_top") else [1.0] * channels  # EfficientNet divides twice
    return tuple((m + offset) / scale for m in mean), tuple(s * a / scale for s, a in zip(std, again, strict=True))


def _each(value: Any, channels: int) -> list[float]:
    values = [float(v) for v in value] if isinstance(value, list | tuple) else [float(value)] * channels
    return values * channels if len(values) == 1 else values


def _check_steps(steps: Preprocessing, processor: Any, kind: str) -> None:
    base = steps.crop or (steps.resize if isinstance(steps.resize, tuple) else (224, 224))
    shape = (base[0] * 3 // 2 + 1, base[1] * 2 + 1, steps.channels or 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels)
    with library_call(
        f"An image prepared by {kind}", instead="name a factory that wraps the model with its own `prepare`"
    ):
        theirs = processor(images=image, return_tensors="pt")["pixel_values"]
    ours = steps(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    level = LEVELS / 255 / torch.tensor(steps.std or (1.0,)).view(1, -1, 1, 1)
    if theirs.shape != ours.shape or ((ours - theirs).abs() > level).any():
        raise BadInput(
            f"{kind} prepares images in a way that cfalign does not know; name a factory that wraps the model with its "
            "own `prepare`."
        )
