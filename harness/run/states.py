"""What today's saved lab is called."""

from __future__ import annotations

from harness.guest import inject
from harness.lab import saved
from harness.lab.lab import Wish
from harness.model.spec import Accel
from harness.run import templates


def lab_identity(wish: Wish) -> str:
    """What a saved lab of `wish` with today's agent and pods in it is kept under
    (`harness.lab.saved.key`)."""
    guest = next(image for image in wish.images.guests if image.name == wish.guest)
    return saved.key(wish, templates.recipe(guest, inject.expected_digest(), Accel.KVM))
