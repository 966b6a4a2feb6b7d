"""How many templates there are of each role and phase: counted once, kept in the cache.

Every change makes a new generation, and the generation is part of the key: whoever counted before the change
stores where nobody looks any more. Processes that share no cache notice a change after TIMEOUT_SECONDS.
"""

import uuid
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.db.models import Count
from django.db.models.signals import post_delete, post_save

from .models import Phase, Template

TIMEOUT_SECONDS = 60
ROLES_MAX = 100
GENERATION_KEY = "forge.library.generation"

Rows = list[tuple[str, str, int]]


@dataclass(frozen=True)
class Counts:
    """Rows of role, phase and the number of templates that have both."""

    rows: Rows

    def total(self, phase: str = "", role: str = "") -> int:
        """Return how many templates there are of a phase and of a role; an empty one counts all."""
        return sum(n for row_role, row_phase, n in self.rows if phase in ("", row_phase) and role in ("", row_role))

    def phases(self, role: str = "") -> list[tuple[str, str, int]]:
        """Return each phase with its label and its number of templates."""
        return [(value, label, self.total(value, role)) for value, label in Phase.choices]

    @property
    def roles(self) -> list[str]:
        """The roles by name; of very many, those that most templates have."""
        numbers: Counter[str] = Counter()
        for role, _, number in self.rows:
            numbers[role] += number
        return sorted(role for role, _ in numbers.most_common(ROLES_MAX))


def counts(for_staff: bool) -> Counts:
    """Return the counts of what staff may see, or of what everybody may; from the cache if it has them."""
    generation = cache.get_or_set(GENERATION_KEY, _new_generation, None)
    return Counts(cache.get_or_set(_key(generation, for_staff), partial(_count, for_staff), TIMEOUT_SECONDS))


def warm() -> Counts:
    """Count anew for everybody and for staff; return what staff see."""
    forget()
    counts(for_staff=False)
    return counts(for_staff=True)


def forget(**kwargs: Any) -> None:
    cache.set(GENERATION_KEY, _new_generation(), None)


def connect() -> None:
    """Forget the counts whenever a change of a template is committed."""
    for signal in (post_save, post_delete):
        signal.connect(_changed, sender=Template, dispatch_uid="forge.library")


def _changed(**kwargs: Any) -> None:
    transaction.on_commit(forget)


def _new_generation() -> str:
    return uuid.uuid4().hex


def _key(generation: str, for_staff: bool) -> str:
    return f"forge.library.{generation}.{'staff' if for_staff else 'everybody'}"


def _count(for_staff: bool) -> Rows:
    templates = Template.objects.all() if for_staff else Template.objects.filter(active=True)
    grouped = templates.order_by("agent_role", "workflow_phase").values_list("agent_role", "workflow_phase")
    return list(grouped.annotate(Count("pk")))
