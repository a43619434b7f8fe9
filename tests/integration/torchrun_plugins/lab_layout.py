"""Layouts of log files, written for torchrun: torch's classes, and what torch says of them."""

import os

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsDest, LogsSpecs, Std
from torch.distributed.elastic.multiprocessing.api import to_map


class ByRank(LogsSpecs):
    """LOG_DIR/rank_<global rank>/attempt_<n>.{out,err}: a rank keeps its folder over restarts."""

    def reify(self, envs):
        dest = LogsDest()
        redirects = to_map(self._redirects, len(envs))
        tee = to_map(self._tee, len(envs))
        for local_rank, env in envs.items():
            folder = os.path.join(self.root_log_dir, f"rank_{env['RANK']}")
            os.makedirs(folder, exist_ok=True)
            attempt = os.path.join(folder, f"attempt_{env['TORCHELASTIC_RESTART_COUNT']}")
            for std, end, files, shown in (
                (Std.OUT, "out", dest.stdouts, dest.tee_stdouts),
                (Std.ERR, "err", dest.stderrs, dest.tee_stderrs),
            ):
                if std in tee[local_rank]:
                    shown[local_rank] = files[local_rank] = f"{attempt}.{end}"
                else:
                    files[local_rank] = f"{attempt}.{end}" if std in redirects[local_rank] else ""
            env["TORCHELASTIC_ERROR_FILE"] = f"{attempt}.json"
            dest.error_files[local_rank] = f"{attempt}.json"
        return dest

    @property
    def root_log_dir(self):
        return self._root_log_dir


class LabDefault(DefaultLogsSpecs):
    """torch's own layout, and a file that names the machine of each run."""

    def reify(self, envs):
        dest = super().reify(envs)
        with open(os.path.join(self.root_log_dir, "machine"), "w", encoding="utf-8") as file:
            file.write(os.uname().nodename)
        return dest
