"""What `dramatiq workers.main` loads. The broker is the one global of this project: that command looks for it."""

from __future__ import annotations

import dramatiq

from persistence.settings import Settings
from persistence.write_log import begin_log
from workers.actor import make_broker
from workers.process import WorkerProcess

settings = Settings.load()
begin_log(settings)
broker = make_broker(settings, WorkerProcess(settings))
dramatiq.set_broker(broker)
