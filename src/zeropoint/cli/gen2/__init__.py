"""The command line of the second generation of Rubin's tasks, on repositories of the third: ``TASK.py REPOPATH --id ...``."""
