"""How good fills are, measured fairly: `pixmend evaluate FOLDER`.

From below: `protocol` (which pictures, which holes), `method` (what fills them: one interface), `baselines`, `models`
and `foreign` (the methods there are), `metrics`, `distributions`, `classifier`, `memorisation` and `learned` (what
fills are measured by), `statistics` (how sure a figure is), `runner` and `measuring` (the work, with files to resume
from), `summary`, `tables` and `report` (what becomes of the figures), `evaluate` (all of it in order),
`cli`.
"""
