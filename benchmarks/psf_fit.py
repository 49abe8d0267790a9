"""CPU seconds and memory of the PSF fit, ours against Piff itself, on the same simulated stars.

    python benchmarks/psf_fit.py --stars 200 --piff-stars 60

Each fit runs in its own process; the memory is the peak of that process above its state before the fit.
Timings are warm: every kernel has been compiled on a handful of stars before the clock starts.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

WIDTH = 4000


def simulate(n, seed):
    """Return candidates of a PSF with quadratic variation (FWHM about 4 pixels), and a function of the truth."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests"))
    from naive.psf_stars import make_candidates, true_stamps

    candidates, _ = make_candidates(n, np.random.default_rng([seed, 0x95F]), flux=(4.3, 6.0))
    return candidates, true_stamps


def memory_kib(field):
    """Return a line of /proc/self/status in KiB (Linux)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def reset_peak():
    """Set the process's peak memory to its present memory, and return that in KiB."""
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")
    return memory_kib("VmRSS")


def fit(solver, n, seed, order, piff_like):
    """Fit once and print the numbers as JSON."""
    from naive.psf_stars import blank_exposure
    from zeropoint.psf.piff_determiner import PiffPsfDeterminer, PiffPsfDeterminerConfig

    candidates, true_stamps = simulate(n, seed)
    config = PiffPsfDeterminerConfig()
    config.solver = solver
    config.spatialOrder = order
    if piff_like:
        config.adaptive_max_snr = config.photon_noise_weights = config.core_normalization = False
        config.prior_strength = 0.0
    determiner = PiffPsfDeterminer(config)
    exposure = blank_exposure(WIDTH, WIDTH)
    if solver == "native":
        determiner.determine_psf(exposure, candidates.take(np.arange(20)))
    else:
        import galsim  # noqa: F401
        import piff  # noqa: F401
    before, clock, wall = reset_peak(), time.process_time(), time.time()
    result = determiner.determine_psf(exposure, candidates)
    cpu, wall = time.process_time() - clock, time.time() - wall
    memory = (memory_kib("VmHWM") - before) / 1024
    x, y = np.random.default_rng(1).uniform(20, WIDTH - 20, (2, 200))
    drawn = result.psf.kernel_stamps(x=x, y=y)
    truth = true_stamps(x, y, result.psf.size)
    errors = shape_errors(drawn, truth)
    print(
        json.dumps(
            {
                "cpu": cpu, "wall": wall, "memory": memory, "used": int(result.used.sum()), "n": len(candidates),
                "size_mean": float(errors[0].mean()), "size_rms": float(errors[0].std()),
                "e_rms": float(np.hypot(errors[1].std(), errors[2].std()) / np.sqrt(2)),
                "stamps": drawn[:20].ravel().tolist(),
            }
        )
    )  # fmt: skip


def shape_errors(drawn, truth):
    """Return dT/T, de1, de2 of drawn against true stamps."""
    from zeropoint.kernels.moments import adaptive_moments_stack

    values = []
    for stamps in (drawn, truth):
        out = np.empty((len(stamps), 4))
        centre = np.full(len(stamps), float(stamps.shape[1] // 2))
        adaptive_moments_stack(np.ascontiguousarray(stamps), centre, centre, 1.5, 300, 1e-8, out)
        size = out[:, 1] + out[:, 2]
        values.append((size, (out[:, 1] - out[:, 2]) / size, 2 * out[:, 3] / size))
    (a, b, c), (p, q, r) = values
    return a / p - 1, b - q, c - r


def main():
    """Time the fit of a PSF in a process of its own, then the same beside Piff."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stars", type=int, default=200, help="stars of our own fit")
    parser.add_argument("--piff-stars", type=int, default=60, help="stars of the comparison; 0 for no Piff")
    parser.add_argument("--order", type=int, default=2, help="spatial order")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", nargs=3, metavar=("SOLVER", "STARS", "PIFF_LIKE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        solver, stars, piff_like = options.child
        simulate(1, 0)
        fit(solver, int(stars), options.seed, options.order, piff_like == "1")
        return

    def run(solver, stars, piff_like):
        command = [
            sys.executable, os.path.abspath(__file__), "--order", str(options.order), "--seed", str(options.seed),
            "--child", solver, str(stars), "1" if piff_like else "0",
        ]  # fmt: skip
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    print(
        f"{'fit':28s} {'stars':>9s} {'CPU s':>7s} {'wall s':>7s} {'MiB':>6s} {'dT/T':>9s} {'rms':>8s} {'e rms':>8s}"
    )

    def show(name, r):
        print(
            f"{name:28s} {r['used']:4d}/{r['n']:<4d} {r['cpu']:7.2f} {r['wall']:7.2f} {r['memory']:6.0f} "
            f"{r['size_mean']:9.1e} {r['size_rms']:8.1e} {r['e_rms']:8.1e}"
        )

    show("native", run("native", options.stars, False))
    if options.piff_stars:
        ours = run("native", options.piff_stars, True)
        show("native, Piff's weights", ours)
        theirs = run("piff", options.piff_stars, True)
        show("Piff", theirs)
        a, b = np.array(ours["stamps"]), np.array(theirs["stamps"])
        print(
            f"largest difference of the last two, in units of the peak: {np.abs(a - b).max() / b.max():.1e}"
        )


if __name__ == "__main__":
    main()
