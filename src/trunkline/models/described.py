"""What is in the columns of an encoded matrix: told to whoever builds a network for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trunkline.errors import TrainingError, did_you_mean
from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.task import Task

if TYPE_CHECKING:
    from trunkline.models.torch import Standardised

__all__ = ["Column", "Columns", "describe"]


@dataclass(frozen=True, kw_only=True)
class Column(EncodedColumn):
    """One input, as the encoder has it: the columns `place` of the matrix are its.

    Of a category, code 0 is missing or unknown. The values of an image lie in the order of its shape; of a vector of up
    to n numbers those that are not there are NaN.
    """

    place: slice


@dataclass(frozen=True)
class Columns:
    """All inputs in the order of the matrix, which is `width` columns wide, and the task.

    `outputs` is how many numbers a network gives a row: None is one, as a vector [b]; k is a matrix [b, k].
    """

    inputs: tuple[Column, ...]
    task: Task

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return self.inputs[-1].place.stop if self.inputs else 0

    @property
    def outputs(self) -> int | None:
        """The task's `width`."""
        return self.task.width

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs' names."""
        return tuple(column.name for column in self.inputs)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Places in the matrix of all that is no category."""
        return tuple(at for column in self for at in _places(column) if not column.cardinality)

    @property
    def categories(self) -> tuple[int, ...]:
        """Places in the matrix of the categories' codes."""
        return tuple(at for column in self for at in _places(column) if column.cardinality)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, name: str) -> Column:
        """The input called `name`. Raises TrainingError with the close match."""
        for column in self.inputs:
            if column.name == name:
                return column
        raise TrainingError(
            f"the model has no input {name!r}.{did_you_mean(name, self.names)}", hint="inputs: " + ", ".join(self.names)
        )

    def owner(self, place: int) -> Column:
        """The input whose columns of the matrix contain `place`."""
        return next(column for column in self.inputs if column.place.start <= place < column.place.stop)

    def standardised(self) -> Standardised:
        """A layer for the front of a network: numbers less their mean, over their deviation, 0 where missing.

        Codes of categories stay as they are. float32 [b, width] -> [b, width]. Imports torch.
        """
        from trunkline.models.torch import Standardised

        return Standardised(self)


def describe(encoder: Encoder, task: Task) -> Columns:
    """The columns of the matrices that `encoder` makes."""
    described = [Column(**vars(column), place=encoder.places[column.name]) for column in encoder.columns]
    return Columns(tuple(described), task)


def _places(column: Column) -> range:
    return range(column.place.start, column.place.stop)
