"""What `dramatiq workers.main` loads. The broker is the one global of this project: that command looks for it."""

from __future__ import annotations

import dramatiq

from persistence.settings import Settings
from workers.actor import make_broker

broker = make_broker(Settings.load())
dramatiq.set_broker(broker)
