"""Opening exported packages: what every runtime asks of one before its graphs are loaded."""

from abc import abstractmethod

from lmtasks.errors import UsageError
from lmtasks.export.architectures import is_of_this_version
from lmtasks.export.package import Package, is_package, load_package
from lmtasks.runtime.base import Runtime, RuntimeOpener, RuntimeRequest


class PackageOpener(RuntimeOpener):
    """Base of the openers of packages. Each opens those that were proved in it, and no others."""

    name: str
    """As a line of `RUNTIMES`."""

    @abstractmethod
    def drive(self, package: Package, *, device: str, threads: int | None) -> Runtime:
        """A driver over the graphs of a package that suits.

        Raises:
            WorkError: they cannot be loaded.
        """

    def open(self, request: RuntimeRequest) -> Runtime:
        """See `RuntimeOpener`."""
        return self.drive(self.checked(request), device=request.device, threads=request.threads)

    def precision_of(self, request: RuntimeRequest) -> str:
        """See `RuntimeOpener`."""
        return self.checked(request).precision

    def checked(self, request: RuntimeRequest) -> Package:
        """The package in a folder, which can run so.

        Raises:
            UsageError: no package, a damaged one, one of another version, runtime or precision; or this machine cannot
                run it so.
        """
        ref, precision = request.ref, request.precision
        if not is_package(ref):
            raise UsageError(
                f"{ref} is no exported package, and {self.name} runs packages only: make one with "
                f"`lmtasks export --model {ref} {self._options(precision or 'fp32')} --out PACKAGE`."
            )
        self.check(device=request.device, precision=None)
        package = load_package(ref)
        if package.runtime != self.name:
            raise UsageError(
                f"the package in {ref} was exported for {package.runtime} and proved there; use --runtime "
                f"{package.runtime}, or make another one for {self.name}: `lmtasks export "
                f"{self._options(precision or package.precision)}`."
            )
        self.check(device=request.device, precision=package.precision, force=request.force)
        if precision not in {None, package.precision}:
            raise UsageError(
                f"the package in {ref} is in {package.precision}, was asked for {precision!r}; a package "
                "runs in the precision it was exported in: "
                f"`lmtasks export {self._options(precision)}` makes another one."
            )
        if not is_of_this_version(package.emitter):
            raise UsageError(
                f"{ref} was made by another version: this one does not drive graphs of {package.emitter!r}; export "
                "the model again."
            )
        return package

    def _options(self, precision: str | None) -> str:
        """Options of the command that makes a package for this runtime."""
        runtime = "" if self.name == "onnx" else f"--runtime {self.name} "
        return f"{runtime}--precision {precision}"
