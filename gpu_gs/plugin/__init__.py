"""The Ax plug-in. Importing any part of it registers our classes with Ax's storage."""

from gpu_gs.plugin.storage import register

register()
