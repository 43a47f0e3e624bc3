"""The demo's own ingest key: made once, kept in a file that only its owner can read."""

import os
from datetime import datetime
from pathlib import Path

from budgets.demo.features import TEAM
from budgets.keys import authenticate, create_key
from budgets.models import IngestKey

FILE_NAME = "demo.key"


def demo_key(*, data_dir: Path, now: datetime) -> tuple[IngestKey, str]:
    """The key and its plain text; a new one where the file is missing or its key is no longer usable."""
    file = data_dir / FILE_NAME
    plain = file.read_text().strip() if file.exists() else ""
    key = authenticate(plain, now)
    if key is None or key.team.slug != TEAM or IngestKey.Scope.INGEST not in key.scopes:
        key, plain = create_key(
            team_slug=TEAM, name="demo traffic", scopes=[IngestKey.Scope.INGEST], actor="the demo", now=now
        )
        data_dir.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
            written.write(plain + "\n")
    return key, plain
