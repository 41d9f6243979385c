"""The laboratory: data, models, training, evaluation, metrics, attributions and the results contract."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads starve their neighbours
