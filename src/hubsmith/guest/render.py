"""Rendering of launch-time templates. All are rendered before the first is written."""

from __future__ import annotations

import grp
import pwd
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from hubsmith.guest import files
from hubsmith.guest.layout import Layout
from hubsmith.guest.modules import Module, Template
from hubsmith.guest.outcome import Pending, Refused


def context_for(module: Module, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context with only the settings tables that the module reads."""
    settings = context["settings"]
    visible = None if settings is None else {table: settings[table] for table in module.reads}
    return {**context, "settings": visible}


def _refused(template: Template, why: str, line: int | None = None) -> Refused:
    place = f"{template.source}:{line}" if line else str(template.source)
    return Refused(f"the configuration of {template.topic} cannot be made", f"{place}: {why}")


def environment(folder: Path) -> jinja2.Environment:
    """Return the Jinja2 environment of a folder's templates, for the guest and for planning an image."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )


def render(template: Template, context: Mapping[str, Any]) -> str:
    """Render a template and return the text.

    :raises Refused: the template cannot be rendered. The detail names the line.
    """
    try:
        return environment(template.source.parent).get_template(template.source.name).render(context)
    except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
        raise _refused(template, str(error), _line(error, template.source)) from error


def _line(error: BaseException, source: Path) -> int | None:
    """Return the line of a template in which an error was raised."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    # Jinja2 puts the template's own lines into the traceback.
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == str(source)]
    return lines[-1] if lines else None


@dataclass(frozen=True)
class Prepared:
    """The rendered files of one state, and the units to reload or restart.

    :ivar written: path, content, mode, uid and gid of each file that differs.
    :ivar removed: paths of targets that do not belong to this state.
    """

    written: tuple[tuple[Path, str, int, int, int], ...]
    removed: tuple[Path, ...]
    targets: tuple[str, ...]
    pending: Pending

    def carry_out(self) -> None:
        """Write and remove the files."""
        for path, text, mode, uid, gid in self.written:
            files.write(path, text, mode=mode, uid=uid, gid=gid)
        for path in self.removed:
            path.unlink(missing_ok=True)


def prepare(layout: Layout, modules: Mapping[str, Module], context: Mapping[str, Any]) -> Prepared:
    """Render the templates of the context's state (``good`` or ``bad``) without writing them.

    :raises Refused: a template cannot be rendered, or its owner does not exist.
    """
    written, kept, stale, changed = [], set(), [], []
    for template in (template for module in modules.values() for template in module.templates):
        if template.when not in ("always", context["state"]):
            stale.append(template)
            continue
        text = render(template, context_for(modules[template.topic], context))
        kept.add(template.target)
        try:
            uid, gid = pwd.getpwnam(template.owner).pw_uid, grp.getgrnam(template.group).gr_gid
        except KeyError as error:
            raise _refused(template, str(error.args[0])) from error
        path = layout.at(template.target)
        if files.differs(path, text, mode=template.mode, uid=uid, gid=gid):
            written.append((path, text, template.mode, uid, gid))
            changed.append(template)
    removed = [t for t in stale if t.target not in kept and layout.at(t.target).exists()]
    changed += removed
    return Prepared(
        written=tuple(written),
        removed=tuple(layout.at(template.target) for template in removed),
        targets=tuple(sorted(template.target for template in changed)),
        pending=Pending(
            reload=frozenset(unit for template in changed for unit in template.reload),
            restart=frozenset(unit for template in changed for unit in template.restart),
        ),
    )
