"""What ``--help`` says beyond the arguments: the overview, and examples of every command."""

from __future__ import annotations

OVERVIEW = """\
Do two neural networks see the same thing, up to a smooth change of coordinates?
Measure both on inputs that you have, and compare: the answer is a map from one
to the other, its error, and a verdict.
"""
WORKFLOW = """\
from two networks to a verdict:
  both on the same inputs
    diffeo pairs nets:make_a nets:make_b --weights-a a.safetensors \\
        --weights-b b.safetensors --inputs x.npy -o pairs.npz
    diffeo compare --pairs pairs.npz --html report.html
  each on inputs of its own, and a few pairs of rows that belong together
    diffeo observe nets:make_a --weights a.safetensors --inputs x_a.npy -o A.npz
    diffeo observe nets:make_b --weights b.safetensors --inputs x_b.npy -o B.npz
    diffeo compare A.npz B.npz --landmarks rows.csv --html report.html

first steps:
    diffeo demo scalar --out pictures
    diffeo doctor
    diffeo compare --help

for scripts:
  exit code   0 all is well (compare: equivalent), 1 not so, 2 an error
  --json F    write what was found in numbers; with - to stdout, alone there
  --quiet     print nothing; warnings and errors go to stderr in any case
  colours     only on a terminal; NO_COLOR and FORCE_COLOR are heard
"""
SCREEN = """\
No pairs are needed: spectra, intrinsic dimensions, densities and coverage of both samples are
compared. This can speak against equivalence, and never prove it (diffeo compare does). Files as for
diffeo compare.

example:
    diffeo screen A.npz B.npz --json screening.json

exit code: 0 nothing speaks against equivalence, 1 something does, or nothing could be said, 2 an error
"""
COMPLETION = """\
It needs shtab: pip install 'diffeo[completion]'.

examples:
    diffeo completion bash > ~/.local/share/bash-completion/completions/diffeo
    diffeo completion zsh > ~/.zsh/completions/_diffeo
    diffeo completion fish > ~/.config/fish/completions/diffeo.fish

For zsh the folder must be in $fpath, before compinit runs.
"""
OBSERVE = """\
NETWORK is MODULE:FACTORY. MODULE is imported from the current directory, as python -m would; FACTORY is a
function or class without arguments that gives the torch.nn.Module. Nothing else is executed: weights are read
from safetensors (written by safetensors.torch.save_model(net, "a.safetensors")), inputs from npy
(np.save("x_a.npy", x)).

examples:
  the output of a network, as networks.py makes it
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy -o A.npz
  five neurons of a hidden layer, in double precision
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --layer net.3 --neurons 5 \\
        --dtype float64 -o A.npz
  a transformer, its tokens averaged
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --layer encoder \\
        --reduce mean -o A.npz
  a network with rectifiers: averaged over inputs around each, or by bursts of 64 inputs
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --smooth 0.02 -o A.npz
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --covariances bursts \\
        --bursts 64 --scale 0.01 -o A.npz
  a network with cliffs: 1,500 more inputs where it is sampled too thinly
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --refine 1500 \\
        --added more.npy -o A.npz
  sixty checkpoints, to a folder, with what each measures at common inputs (diffeo family)
    diffeo observe networks:make --weights run/*.safetensors --inputs x.npy -o seen
  images on a surface of two dimensions: orthonormal tangents (n, ..., 2) of the inputs
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --tangents t_a.npy -o A.npz
"""
FAMILY = """\
Files are compared in the order of their names, numbers within them by value. The file of common points holds
NAME.points (L, m) for each NAME.npz, and NAME.jacobians (L, m, p) where derivatives are known; half of them
judge.

example: from the checkpoints of a training run to a page
    diffeo observe networks:make --weights run/*.safetensors --inputs x.npy -o seen
    diffeo family seen/*.npz --common seen/common.npz --html family.html --checkpoint work

exit code: 0 all pairs are told of, 2 an error
"""
PAIRS = """\
Networks, weights and inputs as for diffeo observe. Inputs of more than 64 coordinates (pictures) need tangents.

example:
    diffeo pairs networks:make_a networks:make_b --weights-a a.safetensors --weights-b b.safetensors \\
        --inputs x.npy -o pairs.npz
    diffeo compare --pairs pairs.npz --html report.html
"""
COMPARE = """\
A and B are written by diffeo observe, by Observation.save, or by yourself: an npz file of points (n, m), and
of jacobians (n, m, p), or bursts (n, K, m) and scale, or covariances (n, m, m), or reference (n, p);
optionally dim. Points alone are accepted for one intrinsic dimension only (dim=1).
Pairs are csv or npy files of two columns, row in A and row in B, counted from 0, with a header line or
without; or npz files of points_a and points_b. Landmarks align the two sides, held-out pairs judge the
result: no pair may be both.

examples:
  common inputs of both networks, with derivatives (diffeo pairs): the most accurate by far
    diffeo compare --pairs pairs.npz --html report.html
  a few pairs of rows that belong together
    diffeo compare A.npz B.npz --landmarks landmarks.csv --held-out held-out.csv --html report.html
  one file of pairs: half of them are held out
    diffeo compare A.npz B.npz --landmarks pairs.csv --html report.html --json report.json
  as a test in a script
    diffeo compare A.npz B.npz --landmarks pairs.csv --margin 0.01 > report.txt && echo the same

exit code: 0 equivalent, 1 anything less, 2 an error
"""
