"""Shows that the tests fail, and which. Without a failure there is nothing to mend, and this task fails."""

import json
import os
import sys
from pathlib import Path

import suite

count, failed = suite.run()
print(f"{count} tests, {len(failed)} fail:")
suite.KNOWN.mkdir(exist_ok=True)
for name, why in failed.items():
    print(f"  {name}: {why.splitlines()[-1]}")
    (suite.KNOWN / name).write_text(why)
Path(os.environ["SKEP_OUT"], "before.json").write_text(json.dumps({"tests": count, "failed": sorted(failed)}))
sys.exit(not failed)
