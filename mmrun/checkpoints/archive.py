"""Finds the checkpoint that a reference means, on disk or in the store, and brings it here."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.entry import Entry, folder_name
from mmrun.checkpoints.found import (
    Found,
    Rejected,
    RemovedMeanwhile,
    Where,
    copy_whole,
    found_at,
)
from mmrun.checkpoints.local import SUPERSEDED, LocalCheckpoints
from mmrun.checkpoints.manifest import MANIFEST, ForeignFormat, Manifest
from mmrun.checkpoints.policy import Lineage, Saved, best_first, live, newest_first
from mmrun.checkpoints.policy import superseded as is_superseded
from mmrun.checkpoints.reference import FORMS, Reference
from mmrun.checkpoints.remote import NO_MANIFEST, RemoteCheckpoints
from mmrun.checkpoints.retention import Key
from mmrun.checkpoints.spool import Spool
from mmrun.errors import CheckpointError

logger = logging.getLogger(__name__)

_OUTSIDE = ".."
"""How the names of what lies in the spool begin, seen from the local folder."""


class _TableIsWrong(Exception):  # noqa: N818 (never leaves this module)
    """A checkpoint in the store is not the one that the table of contents names."""


class NothingSaved(CheckpointError):  # noqa: N818 (a state that a resume may accept)
    """The run has no checkpoint at all that counts: its training starts at step 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One checkpoint of a run: the same step and attempt, here, in the store, or both."""

    saved: Saved
    local: Entry | None
    remote: Saved | None
    """Its ``name`` is the one in the store."""
    spare: Entry | None = None
    """What waits in the spool, where it is not ``local`` itself."""


class Archive:
    """The checkpoints of one run, wherever they are; ``remote`` None means offline.

    What still waits in the ``spool`` counts as local, also where its folder is gone or broken.
    """

    def __init__(
        self,
        local: LocalCheckpoints,
        remote: RemoteCheckpoints | None,
        *,
        run_id: str | None,
        spool: Path | None = None,
    ) -> None:
        self._local = local
        self._spool = None if spool is None else Spool(spool, run_id=run_id)
        self._remote = remote
        self._run_id = run_id

    def resolve(self, reference: Reference, *, lineage: Lineage = ()) -> Found:
        """Return what ``reference`` means; changes nothing, downloads only manifests.

        ``latest`` and ``best`` pass over what is broken and say so in ``rejected``.

        Raises:
            NothingSaved: ``latest`` or ``best`` of a run that never saved.
            CheckpointError: there is none like that, or none is whole.
            TrackingError: the store is out of reach, so nothing can be said.
        """
        if reference.path is not None:
            return found_at(reference.path)
        if reference.uri is not None:
            raise CheckpointError(
                f"{reference.uri} does not say which run it is of", hint=f"write {FORMS}"
            )
        return self._chosen(reference, lineage=lineage, but=())

    def bring(self, found: Found, *, lineage: Lineage = ()) -> Path:
        """Return a verified local folder of ``found``, restored from the store if it is there."""
        self._set_aside_broken(found)
        if found.manifest is None or (found.path is not None and not waits(found)):
            return found.path or Path(found.name)
        self._make_way(found.manifest, lineage)
        target = self._place_for(found.manifest)
        if target.exists():
            return target
        if found.path is not None:
            self._local.adopt(found.path, found.manifest, to=target)
        elif self._remote is not None:
            self._remote.restore(found.name, to=target)
        return target

    def obtain(self, reference: Reference, *, lineage: Lineage = ()) -> tuple[Found, Path]:
        """Resolve and bring; a download that turns out broken is passed over like the others."""

        def deliver(found: Found) -> Path:
            return self.bring(found, lineage=lineage)

        return self._first_whole(reference, deliver, lineage=lineage)

    def copy(self, reference: Reference, *, to: Path, lineage: Lineage = ()) -> Found:
        """Make ``to`` a verified copy of what ``reference`` means, from here or from the store."""

        def deliver(found: Found) -> Path:
            if found.path is not None and found.manifest is not None:
                copy_whole(found.path, found.manifest, to=to)
            elif self._remote is not None:
                self._remote.restore(found.name, to=to)
            return to

        return self._first_whole(reference, deliver, lineage=lineage)[0]

    def _first_whole(
        self, reference: Reference, deliver: Callable[[Found], Path], *, lineage: Lineage
    ) -> tuple[Found, Path]:
        found = self.resolve(reference, lineage=lineage)
        but: tuple[Rejected, ...] = ()
        while True:
            try:
                return found, deliver(found)
            except RemovedMeanwhile as error:
                logger.info("%s; looking for another copy", error)
            except CheckpointError as error:
                if reference.named or found.where != "remote":
                    raise
                logger.warning("%s is passed over: %s", found.name, error)
                but += (_rejected(found, str(error)),)
            found = self._chosen(reference, lineage=lineage, but=but)

    def _chosen(
        self, reference: Reference, *, lineage: Lineage, but: tuple[Rejected, ...]
    ) -> Found:
        every, broken = self.survey()
        try:
            return self._choose(reference, every, broken=broken, lineage=lineage, but=but)
        except _TableIsWrong:
            every, broken = self.survey(trusting=False)
            return self._choose(reference, every, broken=broken, lineage=lineage, but=but)

    def survey(self, *, trusting: bool = True) -> tuple[Sequence[Candidate], Sequence[Rejected]]:
        """Return the run's checkpoints, newest first, and the folders that have no manifest.

        Without ``trusting``, every manifest in the store is read.
        """
        if self._remote is not None and not trusting:
            self._remote.distrust_table()
        at_hand = list(self._local.entries())
        folders = self._by_key([*self._local.set_aside(), *at_hand])
        waiting = self._by_key(self._waiting())
        local = {**waiting, **folders}
        stored, unusable = ([], []) if self._remote is None else self._remote.look()
        remote = {saved.key: saved for saved in stored}
        candidates = [
            Candidate(
                saved=local[key][1] if key in local else remote[key],
                local=local[key][0] if key in local else None,
                remote=remote.get(key),
                spare=waiting[key][0] if key in waiting and key in folders else None,
            )
            for key in sorted(local.keys() | remote.keys(), reverse=True)
        ]
        return candidates, [*_broken(at_hand, "local"), *_broken(unusable, "remote")]

    def _waiting(self) -> Iterator[Entry]:
        for path, manifest in self._spool.entries() if self._spool else ():
            name = os.path.relpath(path, self._local.folder)
            yield Entry(name=name, step=manifest.step, manifest=manifest)

    def _by_key(self, entries: Iterable[Entry]) -> dict[Key, tuple[Entry, Saved]]:
        return {
            saved.key: (entry, saved)
            for entry in entries
            if self._ours(entry) and (saved := entry.saved)
        }

    def _ours(self, entry: Entry) -> bool:
        if entry.manifest is None or self._run_id is None:
            return True
        return entry.manifest.run_id == self._run_id

    def _choose(
        self,
        reference: Reference,
        every: Sequence[Candidate],
        *,
        broken: Sequence[Rejected],
        lineage: Lineage,
        but: tuple[Rejected, ...],
    ) -> Found:
        wanted = _in_order(reference, every, lineage)
        rejected = [*but]
        foreign = [one for one in broken if one.foreign]
        for candidate in wanted:
            for found in self._copies(candidate, rejected):
                if not any((found.name, found.where) == (one.name, one.where) for one in but):
                    _refuse_passing(foreign, found, reference)
                    passed = [*rejected, *_in_the_way(found, broken, reference)]
                    return replace(found, rejected=tuple(passed))
        names = _names(every, lineage)
        _refuse_passing(foreign, None, reference)
        if reference.named:
            raise self._not_there(reference, [*rejected, *broken], names=names)
        if reference.which == "best" and every and not wanted:
            raise CheckpointError(
                f"{self._run} has no best checkpoint: none was saved with the metric to choose by",
                hint="use latest, or train with metric_for_best_model and evaluation",
            )
        raise self._nothing_whole([*rejected, *broken], names=names, lineage=lineage)

    def _copies(self, candidate: Candidate, rejected: list[Rejected]) -> Iterator[Found]:
        """Yield the copies of one checkpoint that can be used, the local one first."""
        for found, problem in self.examine(candidate):
            if problem is None:
                yield found
            else:
                rejected.append(_rejected(found, problem))

    def examine(self, candidate: Candidate) -> Iterator[tuple[Found, str | None]]:
        """Yield each copy of one checkpoint and what is wrong with it: here, in the spool, there.

        One on disk is verified with its content, one in the store by names and sizes.
        """
        there = candidate.remote
        stored, problem = self._stored(there)
        for here in (candidate.local, candidate.spare):
            if here is not None and here.manifest is not None:
                path = self._local.path(here.name)
                found = _found(here.name, here.manifest, where="local", path=path)
                yield found, self._local_problem(here, here.manifest, stored)
        if there is not None and self._remote is not None:
            if stored is not None:
                problem = self._remote.problem(there.name, stored)
            yield (
                Found(name=there.name, step=there.step, manifest=stored, where="remote"),
                problem,
            )

    def _stored(self, there: Saved | None) -> tuple[Manifest | None, str | None]:
        """Return the manifest in the store, or why there is none that can be used."""
        if there is None or self._remote is None:
            return None, None
        try:
            manifest = self._remote.manifest(there.name)
        except CheckpointError as error:
            return None, str(error)
        if manifest is None or Saved.of(manifest, name=there.name).key != there.key:
            raise _TableIsWrong
        return manifest, None

    def _local_problem(self, entry: Entry, here: Manifest, stored: Manifest | None) -> str | None:
        if stored is not None and stored.to_json() != here.to_json():
            return f"its {MANIFEST} is not the one in the store"
        return self._local.problem(entry.name)

    @property
    def _run(self) -> str:
        return f"run {self._run_id}" if self._run_id else str(self._local.folder)

    def _not_there(
        self, reference: Reference, broken: Sequence[Rejected], *, names: Sequence[str]
    ) -> CheckpointError:
        reasons = tuple(str(one) for one in broken if one.step == reference.which)
        if not reasons:
            return CheckpointError(
                f"{self._run} has no checkpoint {reference.text}",
                hint=_choice(names, run_id=reference.run_id),
            )
        problem = f"checkpoint {reference.text} of {self._run} is not whole: {reasons[0]}"
        hint = _choice(names, run_id=reference.run_id)
        return CheckpointError(problem, hint=hint, more=reasons[1:])

    def _nothing_whole(
        self, broken: Sequence[Rejected], *, names: Sequence[str], lineage: Lineage
    ) -> CheckpointError:
        """Tell a run whose checkpoints are all broken from one that never saved."""
        reasons = [str(one) for one in broken if one.reason != NO_MANIFEST]
        reasons += [
            f"{entry.name}: found broken earlier"
            for entry in self._local.rejected()
            if not ((saved := entry.saved) and is_superseded(saved, lineage))
        ]
        if not reasons:
            return NothingSaved(f"{self._run} has saved no checkpoint yet", hint=_choice(names))
        return CheckpointError(
            f"{self._run} has checkpoints, but none of them is whole",
            hint="put one of them back in order, or start a new run with "
            "--overwrite_output_dir true",
            more=tuple(reasons),
        )

    def _set_aside_broken(self, found: Found) -> None:
        for one in found.rejected:
            logger.warning("%s is passed over: %s", one.name, one.reason)
            if one.where == "local" and self._local.path(one.name).exists():
                self._local.reject(one.name, one.reason)

    def _make_way(self, manifest: Manifest, lineage: Lineage) -> None:
        """Move what is superseded away from the place that a live checkpoint is to have.

        Another machine may have made the attempt that did it, so nobody has done it here yet.
        """
        name = folder_name(manifest.step)
        if is_superseded(Saved.of(manifest, name=name), lineage):
            return
        if any(
            saved.name == name and is_superseded(saved, lineage) for saved, _ in self._local.list()
        ):
            self._local.supersede(lineage)

    def _place_for(self, manifest: Manifest) -> Path:
        """Return where a restored checkpoint goes: its name, or beside, where that is taken."""
        plain = self._local.path(folder_name(manifest.step))
        aside = self._local.path(f"{SUPERSEDED}/a{manifest.attempt}/{plain.name}")
        for place in (plain, aside):
            if not place.exists():
                return place
            if self._is_copy(place, manifest):
                return place
        raise CheckpointError(
            f"there is no free place for step {manifest.step} in {self._local.folder}",
            hint="use another --output_dir",
        )

    def _is_copy(self, place: Path, manifest: Manifest) -> bool:
        try:
            same = manifests.read(place).to_json() == manifest.to_json()
        except CheckpointError:
            return False
        return same and manifests.problem_with(place, manifest) is None


def waits(found: Found) -> bool:
    """Whether this copy is the one that waits for the store."""
    return found.where == "local" and found.name.startswith(_OUTSIDE)


def _in_order(
    reference: Reference, every: Sequence[Candidate], lineage: Lineage
) -> Sequence[Candidate]:
    """Return the candidates that ``reference`` allows, the preferred one first."""
    if reference.name is not None:
        stored = [one for one in every if one.remote and one.remote.name == reference.name]
        if stored:
            return stored
        # What is not in the store has no name there yet; of those that are, none is meant.
        every = [one for one in every if one.remote is None or reference.attempt is not None]
    by_key = {one.saved.key: one for one in every}
    saved = [one.saved for one in every]
    if isinstance(reference.which, int) and reference.attempt is not None:
        exact = by_key.get((reference.which, reference.attempt))
        return [exact] if exact else []
    alive = live(saved, lineage)
    if reference.which == "best":
        return [by_key[one.key] for one in best_first(alive)]
    if isinstance(reference.which, int):
        alive = [one for one in alive if one.step == reference.which]
    return [by_key[one.key] for one in newest_first(alive)]


def _found(name: str, manifest: Manifest, *, where: Where, path: Path | None) -> Found:
    return Found(name=name, step=manifest.step, manifest=manifest, where=where, path=path)


def _rejected(found: Found, reason: str) -> Rejected:
    return Rejected(name=found.name, step=found.step, where=found.where, reason=reason)


def _broken(entries: Iterable[Entry], where: Where) -> Iterator[Rejected]:
    for entry in entries:
        if entry.problem is not None:
            yield Rejected(
                name=entry.name,
                step=entry.step,
                where=where,
                reason=entry.problem,
                foreign=entry.foreign,
            )


def _refuse_passing(foreign: Sequence[Rejected], found: Found | None, reference: Reference) -> None:
    """Refuse to pass over newer work only because a newer mmrun saved it."""
    for one in foreign:
        newer = not reference.named and (found is None or one.step >= found.step)
        if newer or one.step == reference.which:
            raise ForeignFormat(
                f"{one}",
                hint="use the mmrun that wrote it, or name an older checkpoint with "
                "--resume_from_checkpoint STEP",
            )


def _in_the_way(
    found: Found, broken: Sequence[Rejected], reference: Reference
) -> Iterator[Rejected]:
    """Yield the folders without a manifest that were passed over on the way to ``found``."""
    for one in broken:
        if one.step == found.step or (one.step > found.step and not reference.named):
            yield one


def _names(every: Sequence[Candidate], lineage: Lineage) -> Sequence[str]:
    """Return how each candidate can be named: a bare step where that is enough."""
    alive = live((one.saved for one in every), lineage)
    bare = {one.step: one.attempt for one in reversed(newest_first(alive))}
    return [
        str(one.saved.step)
        if bare.get(one.saved.step) == one.saved.attempt
        else f"{one.saved.step}.a{one.saved.attempt}"
        for one in every
    ]


def _choice(names: Sequence[str], *, run_id: str | None = None) -> str:
    """Name what there is, and the reference to one of them as it can be given."""
    if not names:
        return "start the training without --resume_from_checkpoint"
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")  # noqa: PLR2004
    example = f"{run_id}@{names[0]}" if run_id else f"--resume_from_checkpoint {names[0]}"
    return f"one of these steps: {shown}; for example {example}"
