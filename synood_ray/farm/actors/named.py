"""What the actors have in common: the name by which the dashboard and the logs call them."""

from __future__ import annotations


class Named:
    """``repr`` is the actor's name in the cluster without what makes it unique there: "sampler-3 · demo".

    Ray writes it before the lines of the actor's log and into the dashboard.
    """

    def __repr__(self) -> str:
        import ray

        name = ray.get_runtime_context().get_actor_name() if ray.is_initialized() else None
        return name.rpartition(" · ")[0] if name else type(self).__name__
