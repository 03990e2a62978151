"""What a benchmark compares must do the same work."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import SIDES

from benchmarks import rows

MORE = ["Once more.,neutral", "once (MORE)!,neutral", "once more,bullish", "?!,neutral"]


@pytest.mark.slow
def test_prepare_and_its_peer_keep_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows.make_project(tmp_path, 200, headlines=1)
    with (tmp_path / "data/raw/rows.csv").open("a", encoding="utf-8") as file:
        file.write("\n".join(MORE) + "\n")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    figures = rows.beside_peer(tmp_path, rounds=1)
    assert figures["peer_over_prepare"] > 0

    def kept(folder: str) -> list[tuple]:
        table = pd.concat(pd.read_parquet(tmp_path / folder / f"{side}.parquet") for side in SIDES)
        return sorted(table[["text", "label", "tokens"]].itertuples(index=False, name=None))

    assert len(kept("peer")) == 202
    assert kept("peer") == kept("data/prepared")
