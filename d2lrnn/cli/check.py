"""``d2lrnn check``: layers of another framework, built here and compared with what they computed there."""

from __future__ import annotations

from d2lrnn.cli.commands.check import CheckRequest
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.port_output import described_stack, print_proof, proof_to_json
from d2lrnn.ports.ported import load_port


def check(request: CheckRequest) -> int:
    """Prints what was compared; returns the exit code."""
    check_writable("--json", request.json)
    ported = load_port(request.file)
    print(f"file     {request.file}: {described_stack(ported.spec)}, from {ported.source}")
    built = ported.build(request.backend)
    print_proof(built)
    write_json(request.json, {"file": request.file, **proof_to_json(built)})
    return 0
