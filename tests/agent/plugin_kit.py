"""Installs a package with event log handlers, as pip would, where it can be imported."""

HANDLERS = '''
import logging, threading

class Memory(logging.Handler):
    seen = []
    def emit(self, record):
        self.seen.append(self.format(record))
    def flush(self):
        self.seen.append("flush")
    def close(self):
        self.seen.append("close")
        super().close()

class Raising(logging.Handler):
    def emit(self, record):
        raise RuntimeError("no network")

class Broken(logging.Handler):
    """Does as the standard library's own: what goes wrong is for handleError."""
    def emit(self, record):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            self.handleError(record)

class Blocking(logging.Handler):
    def emit(self, record):
        threading.Event().wait()

class Filtering(Memory):
    def filter(self, record):
        return "keep" in record.getMessage()

class Rewriting(Memory):
    def filter(self, record):
        return logging.makeLogRecord({"msg": "re" + record.getMessage()})

def warnings_only():
    handler = Memory()
    handler.setLevel(logging.WARNING)
    return handler

def fails():
    raise OSError("no such service")

def no_handler():
    return "handler"
'''


def install_plugins(folder):
    """Install the plug-ins below a folder that is, or will be, on the import path."""
    (folder / "event_plugins.py").write_text(HANDLERS)
    info = folder / "event_plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: event-plugins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[elrun.event_log_handlers]\n"
        "memory = event_plugins:Memory\n"
        "raising = event_plugins:Raising\n"
        "broken = event_plugins:Broken\n"
        "blocking = event_plugins:Blocking\n"
        "filtering = event_plugins:Filtering\n"
        "rewriting = event_plugins:Rewriting\n"
        "warnings = event_plugins:warnings_only\n"
        "fails = event_plugins:fails\n"
        "missing = event_plugins:Missing\n"
        "no_handler = event_plugins:no_handler\n"
    )
