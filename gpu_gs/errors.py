"""The exceptions and warnings that gpu_gs raises on purpose; everything else is a bug."""


class GpuGsError(Exception):
    """Base class of all errors raised on purpose by gpu_gs."""


class ConfigError(GpuGsError, ValueError):
    """A configuration is wrong. ``problems`` holds one readable line for each thing to mend."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[list[str]]]:
        return type(self), (self.problems,)


class DeviceUnavailableError(GpuGsError, RuntimeError):
    """The configuration demands a device that this machine does not have."""


class FitError(GpuGsError, RuntimeError):
    """Every start of a hyperparameter fit failed; the message lists each with its reason."""


class TaskError(GpuGsError, RuntimeError):
    """A run cannot start or go on: its objective, folder or journal is unusable."""


class EnvironmentSetupError(GpuGsError, RuntimeError):
    """What a rival of a benchmark needs could not be installed; the message says of each which step failed and how."""


class GpuGsWarning(UserWarning):
    """Base class of all warnings issued by gpu_gs."""


class FallbackWarning(GpuGsWarning):
    """Something fell back to a slower or different way; the message says why."""
