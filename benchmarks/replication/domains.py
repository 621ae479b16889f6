"""The two kinds of pictures that are trained on, shapes and digits, and their judges.

Rule 1: images to train on, to tune on (validation), to judge by (test) and of the classifier are
apart; the last three are the same for every seed.
Rule 2: a base is trained on messy images of all kinds, ingredients on clean ones of some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from replication import judging
from replication.judging import Classifier, Probe
from replication.settings import Setting
from replication.shapes import ATTRIBUTES, CAPTIONS, STYLES, Pictures, shapes
from replication.work import Work, load

FIXED = 1_000_000
"""The seed of what is the same for all seeds."""
DIGIT_PARTS = {"classifier": 500, "train": 800, "validation": 160, "test": 337}
GREYEST = 16


@dataclass(frozen=True, slots=True)
class Domain:
    """A kind of pictures."""

    name: str
    classes: int
    channels: int
    broad: Callable[[int], Pictures]
    """What a base is trained on, of a seed."""
    validation: Pictures
    test: Pictures
    classifier: Classifier
    held_out_accuracy: float
    """The share of the attributes of test images that the classifier reads right."""

    def new(self, work: Work, setting: Setting, seed: int) -> Path:
        """An untrained base."""
        return work.new_base(
            seed,
            self.classes,
            in_channels=self.channels,
            out_channels=self.channels,
            sample_size=8,
            patch_size=2,
            num_layers=setting.layers,
            num_attention_heads=2,
            attention_head_dim=setting.width // 2,
        )


def truth(name: str, pictures: Pictures) -> np.ndarray:
    """The right answers [N, attributes]; of shapes, the style is the last."""
    if name == "digits":
        return pictures.labels[:, None]
    found = np.array(CAPTIONS)[pictures.labels]
    return np.concatenate([found, pictures.styles[:, None]], axis=1)


def shapes_domain(work: Work, setting: Setting) -> Domain:
    """The captioned shapes."""
    random = np.random.default_rng(FIXED)
    validation, test = (shapes(count, random) for count in (setting.test // 2, setting.test))
    learned = shapes(setting.classifier_images, random)
    sizes = (*ATTRIBUTES, len(STYLES))
    return _judged(
        work,
        setting,
        learned,
        sizes,
        name="shapes",
        classes=len(CAPTIONS),
        channels=3,
        broad=lambda seed: shapes(
            setting.broad_images, np.random.default_rng(seed + 10_000), messy=True
        ),
        validation=validation,
        test=test,
    )


def digits_domain(work: Work, setting: Setting) -> Domain:
    """scikit-learn's digits; the broad ones are blurred."""
    parts = digits()
    return _judged(
        work,
        setting,
        parts["classifier"],
        (10,),
        name="digits",
        classes=10,
        channels=1,
        broad=lambda seed: blurred(parts["train"]),
        validation=parts["validation"],
        test=parts["test"],
    )


def digits() -> dict[str, Pictures]:
    """The digits by part, shuffled once and for all; a pair of digits counts as a style."""
    from sklearn.datasets import load_digits  # noqa: PLC0415

    found = load_digits()
    order = np.random.default_rng(FIXED).permutation(len(found.images))
    images = (found.images[order] * (255 / GREYEST)).round().astype(np.uint8)[..., None]
    labels = found.target[order].astype(np.int64)
    everything = Pictures(images, labels, labels // 2)
    ends = np.cumsum(list(DIGIT_PARTS.values())).tolist()
    place = np.arange(len(images))
    return {
        name: everything.where((place >= end - count) & (place < end))
        for (name, count), end in zip(DIGIT_PARTS.items(), ends, strict=True)
    }


def blurred(pictures: Pictures) -> Pictures:
    """Each pixel is the mean of itself and its neighbours, and half as far from grey."""
    wide = np.pad(pictures.images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    mean = sum(wide[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)) / 9
    images = (128 + (mean - 128) * 0.7).round().astype(np.uint8)
    return Pictures(images, pictures.labels, pictures.styles)


def _judged(
    work: Work, setting: Setting, learned: Pictures, sizes: tuple[int, ...], **fields: Any
) -> Domain:
    name, test = fields["name"], fields["test"]
    answers, steps = truth(name, learned), setting.classifier_steps
    folder = work.made(
        "classifier",
        {"name": name, "images": len(learned), "steps": steps},
        lambda folder: judging.train_classifier(
            learned, answers, sizes, steps, folder / "weights.pt"
        ),
    )
    classifier = judging.read_classifier(learned, sizes, folder / "weights.pt")
    right = judging.answers_of(classifier, test.images) == truth(name, test)
    return Domain(**fields, classifier=classifier, held_out_accuracy=float(right.mean()))


class Judge:
    """Judges models of a domain on one part of its images."""

    def __init__(self, work: Work, setting: Setting, domain: Domain, part: str = "test") -> None:
        self.work, self.setting, self.domain, self.part = work, setting, domain, part
        pictures = domain.test if part == "test" else domain.validation
        self.groups = pictures.styles
        self.asked: Probe = judging.probe(pictures, setting.draws, FIXED)
        self._features = judging.features_of(domain.classifier, pictures.images)

    @property
    def key(self) -> dict[str, Any]:
        """What its figures depend on besides the model."""
        return {
            "domain": self.domain.name,
            "part": self.part,
            "draws": self.setting.draws,
            "test": self.setting.test,
        }

    def losses(self, *models: Path) -> dict[str, Any]:
        """The held-out losses of a model, or of the ensemble of several."""
        key = {**self.key, "models": list(models)}
        return self.work.figure(
            "loss",
            key,
            lambda: judging.losses(
                judging.ensemble([load(each) for each in models]), self.asked, self.groups
            ),
        )

    def samples(self, model: Path, bank: Path | None = None) -> np.ndarray:
        """Samples of all captions in turn."""
        found = self.work.samples(
            model,
            bank,
            images=self.setting.samples,
            steps=self.setting.sample_steps,
            guidance=self.setting.guidance,
            classes=tuple(range(self.domain.classes)),
        )
        # grey images are saved in colour
        return found[..., : self.domain.channels]

    def sampled(self, model: Path, bank: Path | None = None) -> dict[str, Any]:
        """What the classifier says of a model's samples."""
        return self.judged_images(self.samples(model, bank))

    def judged_images(self, images: np.ndarray) -> dict[str, Any]:
        """The share of attributes that are as the captions in turn say, and the distance."""
        answers = judging.answers_of(self.domain.classifier, images)
        labels = np.arange(len(images)) % self.domain.classes
        shapes = self.domain.name == "shapes"
        wanted = np.array(CAPTIONS)[labels] if shapes else labels[:, None]
        features = judging.features_of(self.domain.classifier, images)
        found = {
            "attributes": float((answers[:, : wanted.shape[1]] == wanted).mean()),
            "distance": judging.frechet(features, self._features),
        }
        if shapes:
            counts = np.bincount(answers[:, -1], minlength=len(STYLES)) / len(images)
            some = counts[counts > 0]
            found["styles"] = float(np.exp(-(some * np.log(some)).sum()))
            found["style_shares"] = counts.tolist()
        return found

    def floor(self) -> float:
        """The distance of as many validation images, which no model has made."""
        others = self.domain.validation if self.part == "test" else self.domain.test
        features = judging.features_of(self.domain.classifier, others.images)
        return judging.frechet(features[: self.setting.samples], self._features)


DOMAINS: Mapping[str, Callable[[Work, Setting], Domain]] = {
    "shapes": shapes_domain,
    "digits": digits_domain,
}


class Domains:
    """The domains of a study, each made when it is first asked for."""

    def __init__(self, work: Work, setting: Setting) -> None:
        self.work, self.setting = work, setting
        self.made: dict[str, Domain] = {}
        self.judges: dict[tuple[str, str], Judge] = {}

    def __getitem__(self, name: str) -> Domain:
        if name not in self.made:
            self.made[name] = DOMAINS[name](self.work, self.setting)
        return self.made[name]

    def judge(self, name: str, part: str = "test") -> Judge:
        """Who judges models of a domain on a part of its images."""
        if (name, part) not in self.judges:
            self.judges[name, part] = Judge(self.work, self.setting, self[name], part)
        return self.judges[name, part]

    def accuracy(self) -> dict[str, float]:
        """The share of attributes of test images that each classifier reads right."""
        return {name: each.held_out_accuracy for name, each in self.made.items()}

    def floors(self) -> dict[str, float]:
        """The distance of other real images, by domain."""
        return {name: self.judge(name).floor() for name in self.made}
