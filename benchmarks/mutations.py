"""The table of changes: what each must make an evaluation embed again, and what it did."""

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import mutations


def main() -> int:
    wrong = 0
    print(f"{'change between two runs':44}  must  was")
    for change in mutations.CHANGES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["EVALKIT_CACHE"] = f"{folder}/cache"
            must, was = mutations.embedded_again(change, Path(folder))
        wrong += must != was
        print(f"{change:44}  {must:4}  {was:3}{'  WRONG' if must != was else ''}")
    print(f"{len(mutations.CHANGES)} changes, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
