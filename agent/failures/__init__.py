"""Why a worker died: error files, failures, the root cause."""
