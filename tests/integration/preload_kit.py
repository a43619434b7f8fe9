"""A module to preload, and a program that tells in which process it was imported."""

PRELOAD = ("--preload", "preloadable,multiprocessing.pool,random,json")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # said beforehand, elrun needs not say it
PRELOADABLE = """
import logging, os
handler = logging.StreamHandler()  # it keeps the standard error of this moment
IMPORTED_BY = os.getpid()
THREADS = os.environ.get("OMP_NUM_THREADS")
"""
