"""``diffusers:FOLDER`` or ``diffusers:OWNER/NAME`` (either with ``:SUBFOLDER``): autoencoders in diffusers' format.

Needs the extra ``diffusers``. The class is read from config.json; images range over [−1, 1] for all three:

- ``AutoencoderKL``: z is the mean of the posterior, without the scaling factor.
- ``VQModel``: z is the quantised code; a shifted code is not quantised again.
- ``AutoencoderTiny``: z is the raw latent.

They are convolutional and work on any size. ``size`` is the ``sample_size`` of the configuration; AutoencoderTiny has
none, so images keep their size. A folder is read without a network; diffusers downloads a name of the hub to its cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cfalign._errors import BadInput
from cfalign._models.extras import imported
from cfalign._models.guard import described
from cfalign.autoencoders.families.quantised import QuantisedAutoencoder
from cfalign.autoencoders.wrapped_autoencoder import WrappedAutoencoder, wrap


class PosteriorMean(nn.Module):
    """An ``AutoencoderKL``: latents [n, channel, h, w] are posterior means, images range over [−1, 1]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def encode(self, images: Tensor) -> Tensor:
        """Means of the posterior."""
        mean: Tensor = self.model.encode(images).latent_dist.mean
        return mean

    def decode(self, latents: Tensor) -> Tensor:
        """Images, clipped to [−1, 1]."""
        images: Tensor = self.model.decode(latents).sample
        return images.clamp(-1, 1)


class TinyLatents(nn.Module):
    """An ``AutoencoderTiny``: latents [n, channel, h, w] as they are, images range over [−1, 1]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def encode(self, images: Tensor) -> Tensor:
        """Latents, unscaled."""
        latents: Tensor = self.model.encode(images).latents
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Images, clipped to [−1, 1]."""
        images: Tensor = self.model.decode(latents).sample
        return images.clamp(-1, 1)


ADAPTERS: Mapping[str, Callable[[Any], nn.Module]] = {
    "AutoencoderKL": PosteriorMean,
    "VQModel": QuantisedAutoencoder,
    "AutoencoderTiny": TinyLatents,
}


def load(name: str, *, trust: bool = False) -> WrappedAutoencoder:
    """The autoencoder in a folder or on the hub.

    ``trust`` changes nothing here, because weights are read as safetensors or without running code. Raises BadInput
    when the autoencoder is missing, of another class or damaged, and without the extra ``diffusers``.
    """
    imported("diffusers", extra="diffusers")
    place, subfolder = _place(name)
    config = _config(place, subfolder)
    kind = str(config.get("_class_name"))
    if kind not in ADAPTERS:
        raise BadInput(f"{name} must hold an autoencoder of the class {', '.join(ADAPTERS)}, got {kind}.")
    channels = config.get("in_channels", 3)
    if channels not in (1, 3) or config.get("out_channels", 3) != channels:
        raise BadInput(
            f"{name} must map 3 channels to 3, or 1 to 1 (grey), got {channels} to {config.get('out_channels', 3)}."
        )
    model = _weights(kind, place, subfolder).float().eval().requires_grad_(False)
    size = config.get("sample_size")
    label = Path(place).resolve().name if Path(place).is_dir() else place.rpartition("/")[2]
    return wrap(
        ADAPTERS[kind](model).eval(),
        size=size if isinstance(size, int) else None,
        value_range=(-1.0, 1.0),
        stride=_stride(model),
        grey=channels == 1,
        name=subfolder or label,
    )


def _stride(model: Any) -> int:
    widths = getattr(model.config, "encoder_block_out_channels", None) or model.config.block_out_channels
    halvings: int = 2 ** (len(widths) - 1)
    return halvings


def _place(name: str) -> tuple[str, str | None]:
    """Folder or hub name, and the subfolder."""
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return str(folder), None
    place, colon, subfolder = name.partition(":")
    folder = Path(place).expanduser()
    if place and folder.is_dir():
        return str(folder), subfolder or None
    if folder.is_file():
        raise BadInput(f"{place} is a file; expected the folder that holds its config.json.")
    if not place or place.count("/") != 1 or place.startswith((".", "/", "~")) or place.endswith("/"):
        raise BadInput(
            f"There is no folder {place!r}, and a name on the hub has the form OWNER/NAME; expected "
            "diffusers:FOLDER with a config.json, or diffusers:OWNER/NAME."
        )
    return place, subfolder if colon else None


def _config(place: str, subfolder: str | None) -> Mapping[str, Any]:
    reader = imported("diffusers", extra="diffusers").AutoencoderKL  # any class reads the configuration of any
    local = Path(place).is_dir()
    folder = Path(place, subfolder or "")
    if local and not (folder / "config.json").is_file():
        pipeline = (folder / "model_index.json").is_file()
        hint = f"; it is a whole pipeline, try diffusers:{place}:vae" if pipeline else ""
        raise BadInput(f"There is no config.json in {folder}{hint}.")
    try:
        found: Mapping[str, Any] = reader.load_config(place, subfolder=subfolder, local_files_only=local)
    except (OSError, ValueError) as error:
        raise _unavailable(place, subfolder, error) from error
    return found


def _unavailable(place: str, subfolder: str | None, error: Exception) -> BadInput:
    named = f"{place}:{subfolder}" if subfolder else place
    if Path(place).is_dir():
        return BadInput(f"The autoencoder in {named} cannot be read: {described(error)}.")
    return BadInput(
        f"{named} cannot be loaded from the hub ({described(error)}); check the name, or, without a network, copy the "
        "folder with its config.json and weights here and give diffusers:FOLDER."
    )


def _weights(kind: str, place: str, subfolder: str | None) -> Any:
    """The model with all weights from the file. Raises BadInput when some are missing, unexpected or misshapen."""
    owner = getattr(imported("diffusers", extra="diffusers"), kind)
    try:
        model, told = owner.from_pretrained(
            place,
            subfolder=subfolder,
            local_files_only=Path(place).is_dir(),
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # diffusers raises what its parsers and torch raise
        raise _unavailable(place, subfolder, error) from error
    for key, what in (("missing_keys", "lack"), ("unexpected_keys", "hold keys that it has no place for:")):
        if names := sorted(told.get(key) or ()):
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise BadInput(
                f"The weights of {place} do not fit its config.json: they {what} {', '.join(names[:3])}{more}."
            )
    return model
