"""The command line, in process: what it writes and says; bad input costs one line and no file."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from parameters import slow

from quantkeras.api import load_model, save_model
from quantkeras.cli import COMMANDS, main
from quantkeras.runtime import Program

ROOT = Path(__file__).resolve().parents[1]
layers = keras.layers


def images(count=12):
    return np.random.default_rng(0).integers(0, 256, (count, 4, 4, 1)).astype(np.uint8)


def network(name="net"):
    keras.utils.set_random_seed(5)
    inputs = keras.Input((4, 4, 1), name="image")
    x = layers.Conv2D(2, 3, use_bias=False, name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Flatten(name="flat")(layers.ReLU(name="relu")(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x), name=name)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with net.h5, x.npz, the quantized model net_i8_w8_a8.h5 and its program net.qkp."""
    folder = tmp_path_factory.mktemp("made")
    save_model(network(), folder / "net.h5")
    labels = np.arange(12) % 3
    np.savez(folder / "x.npz", x_test=images(), y_test=labels, x_train=images(4))
    assert main(["quantize", "-m", f"{folder}/net.h5", "-sa", f"{folder}/x.npz"]) == 0
    assert main(["convert", "-m", f"{folder}/net_i8_w8_a8.h5", "-o", f"{folder}/net.qkp"]) == 0
    return folder


@pytest.fixture
def work(made, tmp_path):
    """A folder of one's own with copies of all of them; a test may break them."""
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def contents(folder):
    """Every file of a folder, hidden ones as well."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def fails(capsys, words, pattern, status=2):
    """Runs a command that must fail in one line that matches the pattern."""
    assert main([str(word) for word in words]) == status
    error = capsys.readouterr().err
    assert error.startswith("quantkeras: error: ") and error.count("\n") == 1, error
    assert re.search(pattern, error), error


# -- what the commands do ---------------------------------------------------------------------


def test_quantize_takes_the_options_and_names_its_output(work, capsys):
    words = f"quantize -m {work}/net.h5 -i 6 -w 4 -a 4 -sa {work}/x.npz -bs 2 -e 2 -ns 4".split()
    assert main([*words, "--per-tensor-activations", "--weight_range=mse"]) == 0
    told = "net_i6_w4_a4.h5: 2 quantized layers, weights 6 bits (head 8), activations 4 bits\n"
    assert told in capsys.readouterr().out
    model = load_model(work / "net_i6_w4_a4.h5")
    conv, head = model.get_layer("conv"), model.get_layer("head")
    assert (conv.weight_quantizer.bits, head.weight_quantizer.bits) == (6, 8)
    assert conv.weight_quantizer.method == "mse"
    assert conv.output_quantizer.bits == 4 and not conv.output_quantizer.per_channel


def test_quantize_takes_settings_from_a_file_and_options_above_them(work, capsys):
    settings = {"last_weight_bits": 5, "activation_bits": 6, "last_output_bits": 7}
    settings["overrides"] = [{"pattern": "conv", "weight_bits": 3}]
    (work / "q.json").write_text(json.dumps(settings))
    words = f"quantize -m {work}/net.h5 --params {work}/q.json -a 3 -o {work}/out.keras".split()
    assert main([*words, "-sa", f"{work}/x.npz"]) == 0
    told = "out.keras: 2 quantized layers, weights 3 bits (head 5), activations 3 bits (head 7)\n"
    assert told in capsys.readouterr().out
    model = load_model(work / "out.keras")
    assert model.get_layer("head").weight_quantizer.bits == 5
    assert model.get_layer("head").output_quantizer.bits == 7
    assert model.get_layer("conv").output_quantizer.bits == 3


def test_missing_samples_are_a_warning_and_float_layers_are_none(work, capsys):
    assert main(["quantize", "-m", f"{work}/net.h5", "--float_layers", "head,head*"]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("quantkeras: warning: No samples were given")


def test_what_has_no_integer_form_is_a_warning_and_strict_makes_it_an_error(work, capsys):
    image = keras.Input((8, 8, 3))
    shares = keras.layers.Softmax(name="shares")(keras.layers.Conv2D(4, 3, name="conv")(image))
    outputs = keras.layers.Dense(2, name="head")(keras.layers.Flatten(name="flat")(shares))
    keras.Model(image, outputs).save(f"{work}/shares.keras")
    words = ["quantize", "-m", f"{work}/shares.keras"]
    assert main(words) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert any("stay float" in line and "'shares'" in line for line in warnings)
    fails(capsys, [*words, "--strict"], r"stay float.*'shares'")


@pytest.mark.parametrize(
    "words", ["--correct_bias", *slow("--adaround", "--equalize --adaround 5 -v")]
)
def test_methods_without_labels(made, work, capsys, words):
    plain = ["quantize", "-m", f"{work}/net.h5", "-w", "3", "-sa", f"{made}/x.npz"]
    assert main([*plain, "-o", f"{work}/plain.h5"]) == 0
    assert main([*plain, "-o", f"{work}/better.h5", *words.split()]) == 0
    one, other = (load_model(work / f"{name}.h5").get_weights() for name in ("plain", "better"))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))
    out = capsys.readouterr().out
    assert ("equaliz" in out) == ("-v" in words)


def test_methods_that_look_at_samples_need_them(work, capsys):
    fails(capsys, ["quantize", "-m", f"{work}/net.h5", "--adaround"], r"need samples: give -sa")


@pytest.mark.slow
def test_run_gives_the_same_from_a_program_and_a_model(made, work, capsys):
    for name in ("net.qkp", "net_i8_w8_a8.h5"):
        words = f"run -m {made}/{name} -sa {made}/x.npz -o {work}/{name}.npz -bs 5".split()
        assert main(words) == 0
        assert re.search(r"accuracy 0\.\d{4} \(\d+ of 12\)", capsys.readouterr().out)
    with np.load(work / "net.qkp.npz") as outputs:
        (name,) = outputs.files
        scores = outputs[name]
    with np.load(work / "net_i8_w8_a8.h5.npz") as outputs:
        (name,) = outputs.files
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(outputs[name], shares, rtol=1e-5, atol=1e-30)
    np.testing.assert_array_equal(scores, Program.load(made / "net.qkp").predict(images()))


def test_run_finds_samples_and_labels(made, work, capsys):
    def accuracy(*words):
        assert main(["run", "-m", f"{made}/net.qkp", *map(str, words)]) == 0
        captured = capsys.readouterr()
        found = re.search(r"accuracy (\S+) \((\d+) of (\d+)\)", captured.out)
        return (int(found[2]), int(found[3])) if found else captured.err

    right = Program.load(made / "net.qkp").predict(images()).argmax(axis=1)
    np.savez(work / "a.npz", data=images(), labels=right)
    assert accuracy("-sa", work / "a.npz") == (12, 12)
    np.save(work / "x.npy", images())
    assert accuracy("-sa", work / "x.npy") == ""
    np.savez(work / "l.npz", keras.utils.to_categorical(right, 3))
    assert accuracy("-sa", work / "x.npy", "-l", work / "l.npz") == (12, 12)
    np.savez(work / "two.npz", x_train=images(4), y_train=right[:4], x_val=images(), y_val=right)
    assert accuracy("-sa", work / "two.npz", "--samples_key", "x_val") == (12, 12)
    assert accuracy("-sa", work / "two.npz") == (4, 4)
    np.savez(work / "t.npz", x=images(), y=np.full(12, 7))
    assert "warning: no accuracy: labels are class numbers 0 .. 2" in accuracy(
        "-sa", work / "t.npz"
    )


def test_summary_of_each_kind_of_file(made, capsys):
    expected = {
        "net.h5": r"BatchNormalization",
        "net_i8_w8_a8.h5": r"conv +QuantizedConv2D +2x2x2 +uint8\.\S+ +8 +18",
        "net.qkp": r"conv2d\+relu +4x4x1 +2x2x2 +8/8/8",
    }
    for name, pattern in expected.items():
        assert main(["summary", "-m", f"{made}/{name}"]) == 0
        assert re.search(pattern, capsys.readouterr().out), name


def test_verify_says_by_its_exit_status_whether_all_is_exact(made, work, capsys):
    words = ["verify", "-m", f"{made}/net_i8_w8_a8.h5", "-ns", "6", "-bs", "4"]
    assert main(words) == 0
    assert "exact" in capsys.readouterr().out
    program = Program.load(made / "net.qkp")
    program["conv"].params.scale[:] //= 2
    program.save(work / "wrong.qkp")
    words += ["-p", f"{work}/wrong.qkp", "-sa", f"{made}/x.npz", "--json", f"{work}/r.json"]
    assert main(words) == 1
    assert "NOT exact" in capsys.readouterr().out
    report = json.loads((work / "r.json").read_text())
    assert report["first_difference"]["layer"] == "conv" and not report["exact"]


def test_sanitize(made, work, capsys):
    words = f"sanitize -m {made}/net.h5 -o {work}/clean.keras --target pairwise".split()
    assert main(words) == 0
    out = capsys.readouterr().out
    assert re.search(r"^norm +fold into producer +1 +'conv' \(conv2d\), 'norm'", out, re.MULTILINE)
    assert "if quantized, 4 of 5 layers integer; float in part: head (softmax at the end)" in out
    clean, net = load_model(work / "clean.keras"), load_model(made / "net.h5")
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in clean.layers)
    x = images().astype(np.float32)
    np.testing.assert_allclose(np.asarray(clean(x)), np.asarray(net(x)), atol=1e-5)


def test_sanitize_writes_what_it_did(made, work, capsys):
    outputs = [f"--{kind}={work}/s.{suffix}" for kind, suffix in KINDS_OF_REPORT.items()]
    assert main(["sanitize", "-m", f"{work}/net.h5", "--verbose", *outputs]) == 0
    report = json.loads((work / "s.json").read_text())
    assert [entry["layer"] for entry in report["log"]].count("norm") == 1
    assert "Plan for net" in (work / "s.html").read_text()
    drawing = (work / "s.dot").read_text()
    assert 'label="before"' in drawing and 'label="after"' in drawing


KINDS_OF_REPORT = {"json": "json", "html": "html", "plot": "dot"}


def test_report_names_the_users_layers(made, work, capsys):
    words = ["report", "-m", f"{made}/net_i8_w8_a8.h5", "-v", f"--json={work}/r.json"]
    assert main([*words, "--html", f"{work}/r.html"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"norm +BatchNormalization +merged into conv", out)
    assert "4 of 5 layers integer; float in part: head (softmax at the end)" in out
    assert "fold into producer" in out
    assert json.loads((work / "r.json").read_text())["counts"]["integer"] == 4
    assert "merged into conv" in (work / "r.html").read_text()


def test_report_of_what_is_not_quantized(made, capsys):
    fails(capsys, ["report", "-m", made / "net.h5"], r"'net' has no quantized layers.*quantize fir")
    fails(capsys, ["report", "-m", made / "net.qkp"], r"net\.qkp is ")


def test_quantize_says_what_became_of_the_layers(work, capsys):
    words = ["quantize", "-m", f"{work}/net.h5", "-sa", f"{work}/x.npz", "-o", f"{work}/q.keras"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("4 of 5 layers integer") and "merged into" not in out
    assert main([*words, "-v", f"--html={work}/q.html", f"--json={work}/q.json"]) == 0
    assert "merged into conv" in capsys.readouterr().out
    assert (work / "q.html").is_file() and (work / "q.json").is_file()


def test_plot(made, work, capsys):
    words = ["plot", "-m", f"{made}/net_i8_w8_a8.h5", "-o", f"{work}/a.dot", "--left-to-right"]
    assert main([*words, "--before", f"{made}/net.h5"]) == 0
    assert "rankdir=LR" in (work / "a.dot").read_text()
    assert "cluster_1" in (work / "a.dot").read_text()
    assert main(["plot", "-m", f"{made}/net.h5", "-o", f"{work}/b.gv", "--sanitized"]) == 0
    assert 'label="after"' in (work / "b.gv").read_text()


def test_plot_without_graphviz(work, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    before = contents(work)
    pattern = r"needs the Python package graphviz: pip install 'quantkeras\[plots\]'"
    fails(capsys, ["plot", "-m", work / "net.h5"], pattern)
    fails(capsys, ["sanitize", "-m", work / "net.h5", "--plot", work / "a.png"], pattern)
    assert contents(work) == before


def test_version(capsys):
    assert main(["version"]) == 0
    assert re.match(r"quantkeras \d+\.\d+\.\d+\nkeras \d", capsys.readouterr().out)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"] if command is None else [command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"  quantkeras {command or 'quantize -m'}" in text.partition("examples:")[2]


def run_python(*words, **variables):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_program_runs_without_keras(made):
    words = ["run", "-m", f"{made}/net.qkp", "-sa", f"{made}/x.npz"]
    code = f"""
import sys
from quantkeras.cli import main
status = main({words!r})
print(status, [name for name in ("keras", "tensorflow", "h5py", "onnx") if name in sys.modules])
"""
    result = run_python("-c", code)
    assert result.stdout.splitlines()[-1] == "0 []", result.stderr


@pytest.mark.slow
def test_as_a_module_in_a_process_of_its_own(made, tmp_path):
    result = run_python("-m", "quantkeras", "summary", "-m", tmp_path / "absent.h5")
    assert (result.returncode, result.stdout) == (2, "")
    # One line and not a word of TensorFlow's.
    assert result.stderr == f"quantkeras: error: {tmp_path}/absent.h5 does not exist\n"


# -- bad input --------------------------------------------------------------------------------


def test_words_that_make_no_command(capsys):
    fails(capsys, [], r"arguments are required: COMMAND \(see quantkeras --help\)")
    fails(capsys, ["quantise"], r"invalid choice: 'quantise' \(choose from .*quantize")
    fails(capsys, ["quantize"], r"required: -m/--model \(see quantkeras quantize --help\)$")
    fails(capsys, ["quantize", "-m", "a.h5", "-w", "x"], r"argument -w.*invalid int value: 'x'")
    fails(capsys, ["quantize", "-m", "a.h5", "--bits", "4"], r"unrecognized arguments: --bits 4")


@pytest.mark.parametrize("command", [*slow("quantize", "verify"), "run"])
@pytest.mark.parametrize(
    ("bad", "pattern"),
    [
        (images(0), r"x\.npz: There are no samples: the arrays are empty\. Give at least one"),
        (np.where(images() > 9, np.nan, 1), r"input 'image': NaN or infinity .* Remove or repair"),
        (
            np.zeros((5, 4, 5, 1)),
            r"'image': no array of '.*x\.npz' has the shape \(n, 4, 4, 1",
        ),
        (
            np.zeros((5, 4, 4)),
            r"'image': no array of .* channel axis is missing: use x\[\.\.\.",
        ),
        (
            np.full((5, 4, 4, 1), "a"),
            r"'image': expected numbers, .* dtype <U1.*real numbers",
        ),
    ],
    ids=["empty", "nan", "shape", "channels", "dtype"],
)
def test_bad_samples(command, bad, pattern, work, capsys):
    np.savez(work / "x.npz", x=bad)
    before = contents(work)
    model = {"quantize": "net.h5", "verify": "net_i8_w8_a8.h5", "run": "net.qkp"}[command]
    words = [command, "-m", work / model, "-sa", work / "x.npz"]
    output = {"quantize": "net_i8_w8_a8.h5", "verify": "r.json", "run": "out.npz"}[command]
    option = "--json" if command == "verify" else "-o"
    fails(capsys, [*words, option, work / output], pattern)
    assert contents(work) == before


def test_bad_sample_files(work, capsys):
    words = ["run", "-m", work / "net.qkp", "-sa"]
    fails(capsys, [*words, work / "absent.npz"], r"absent\.npz' does not exist")
    whole = (work / "x.npz").read_bytes()
    (work / "cut.npz").write_bytes(whole[: len(whole) // 2])
    fails(capsys, [*words, work / "cut.npz"], r"cut\.npz' is not an \.npz archive, or is cut off")
    fails(
        capsys,
        [*words, work / "x.npz", "--samples_key", "x"],
        r"no array 'x'; it holds x_test, y_t",
    )
    np.savez(work / "l.npz", y=np.zeros(5))
    fails(
        capsys,
        [*words, work / "x.npz", "-l", work / "l.npz"],
        r"l\.npz holds labels of shape \(5,\)",
    )
    fails(capsys, [*words, work / "x.npz", "-bs", "0"], r"batch_size is 0; it must be at least 1")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(value, work, capsys):
    model = network()
    weights = model.get_layer("head").get_weights()
    weights[0][1, 2] = value
    model.get_layer("head").set_weights(weights)
    save_model(model, work / "net.h5")
    before = contents(work)
    pattern = r"layer 'head': its kernel holds NaN or infinity\. Train the model again or repair"
    fails(capsys, ["quantize", "-m", work / "net.h5", "-sa", work / "x.npz"], pattern)
    assert contents(work) == before


@pytest.mark.parametrize(
    ("option", "pattern"),
    [
        ("-w 1", r"weight_bits is 1; it must be 2 to 8, or 16 bits"),
        ("-a 9", r"activation_bits is 9; it must be 2 to 8, or 16 bits"),
        ("-i 32", r"input_weight_bits is 32; it must be 2 to 8, or 16 bits"),
        ("--output-bits -8", r"output_bits is -8; it must be 2 to 8, or 16 bits"),
        ("-b 8", r"buffer_bits is 8; it must be 16 to 32 bits"),
        ("-id float16", r"input_dtype is 'float16'; it must be one of 'auto', 'uint8'"),
        ("--observer minimax", r"no observer 'minimax'; .*Did you mean 'minmax'"),
        ("-ns 0", r"num_samples is 0; it must be a whole number of at least 1"),
        ("--float_layers haed", r"no layer is named 'haed' .*check the names"),
        ("--params absent.json", r"file 'absent\.json' does not exist"),
        ("-o 8", r"output 8: .* for 8 bits of output use --output_bits 8"),
    ],
)
def test_settings_out_of_range(option, pattern, work, capsys):
    before = contents(work)
    words = ["quantize", "-m", work / "net.h5", "-sa", work / "x.npz", *option.split()]
    fails(capsys, words, pattern)
    assert contents(work) == before


def test_a_model_with_nothing_to_quantize(work, capsys):
    inputs = keras.Input((4, 4, 1), name="image")
    save_model(keras.Model(inputs, layers.Softmax(name="end")(inputs), name="bare"), work / "b.h5")
    words = ["quantize", "-m", work / "b.h5", "-sa", work / "x.npz"]
    fails(capsys, words, r"nothing in model 'bare' can be quantized: 'end'")
    for command in ("convert", "verify"):
        fails(capsys, [command, "-m", work / "net.h5"], r"'net' has no quantized layers.*quantize")


READERS = ["quantize", "convert", "verify", "summary", "sanitize", "run", "report", "plot"]


@pytest.mark.parametrize("command", READERS)
def test_files_that_are_cut_off(command, work, capsys):
    name = "net.h5" if command in ("quantize", "sanitize") else "net_i8_w8_a8.h5"
    whole = (work / name).read_bytes()
    (work / name).write_bytes(whole[: len(whole) // 2])
    before = contents(work)
    more = ["-sa", work / "x.npz"] if command in ("quantize", "run") else []
    more += ["-o", work / "drawing.dot"] if command == "plot" else []
    fails(capsys, [command, "-m", work / name, *more], rf"{name} is damaged or incomplete")
    assert contents(work) == before


def test_programs_that_are_none(work, capsys):
    whole = (work / "net.qkp").read_bytes()
    (work / "net.qkp").write_bytes(whole[: len(whole) // 2])
    words = ["run", "-m", work / "net.qkp", "-sa", work / "x.npz"]
    fails(capsys, words, r"net\.qkp' is truncated or damaged")
    words = ["verify", "-m", work / "net_i8_w8_a8.h5", "-p", work / "net.h5"]
    fails(capsys, words, r"net\.h5' is no quantkeras program")
    (work / "net.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    fails(capsys, ["summary", "-m", work / "net.onnx"], r"net\.onnx' is not an ONNX model")


COMMANDS_THAT_WRITE = {
    "quantize": ("net.h5", "-o", "out.h5"),
    "sanitize": ("net.h5", "-o", "out.h5"),
    "convert": ("net_i8_w8_a8.h5", "-o", "out.qkp"),
    "run": ("net.qkp", "-o", "out.npz"),
    "verify": ("net_i8_w8_a8.h5", "--json", "out.json"),
    "report": ("net_i8_w8_a8.h5", "--html", "out.html"),
    "plot": ("net.h5", "-o", "out.dot"),
}


@pytest.mark.parametrize("command", COMMANDS_THAT_WRITE)
def test_outputs_that_cannot_be_written(command, work, capsys):
    model, option, name = COMMANDS_THAT_WRITE[command]
    samples = ["-sa", work / "x.npz"] if command in ("quantize", "run", "verify") else []
    words = [command, "-m", work / model, *samples, option]
    (work / "file").write_text("not a folder")
    (work / "folder" / name).mkdir(parents=True)
    before = contents(work)
    fails(capsys, [*words, work / "absent" / name], r"absent/out.* there is no folder .*; make it")
    fails(capsys, [*words, work / "file" / name], r"file/out.* is a file; choose another folder")
    fails(capsys, [*words, work / "folder" / name], r"out\.\w+ is a folder: choose the name of a f")
    fails(capsys, [*words, work / "out.txt"], r"out\.txt: its name has to be \*\.")
    assert contents(work) == before


def test_the_model_that_is_read_is_never_replaced(work, capsys):
    before = contents(work)
    for command in ("quantize", "sanitize"):
        words = [command, "-m", work / "net.h5", "-o", work / "net.h5"]
        fails(capsys, words, r"net\.h5 is the file that is read: choose another name")
    assert contents(work) == before


@pytest.mark.parametrize(
    "fault",
    [KeyboardInterrupt, *slow(OSError)],
    ids=["interrupted", "disk full"],
)
@pytest.mark.parametrize("command", COMMANDS_THAT_WRITE)
def test_saving_that_stops_half_way_keeps_the_old_file(command, fault, work, capsys, monkeypatch):
    model, option, name = COMMANDS_THAT_WRITE[command]
    (work / name).write_text("the old file")
    before = contents(work)

    def stop(source, target):
        assert Path(source).stat().st_size > 0  # the new one stands beside the old one
        raise fault(28, "No space left on device")

    monkeypatch.setattr(os, "replace", stop)
    samples = ["-sa", work / "x.npz"] if command in ("quantize", "run", "verify") else []
    words = [str(word) for word in (command, "-m", work / model, *samples, option, work / name)]
    status = main(words)
    error = capsys.readouterr().err
    if fault is KeyboardInterrupt:
        assert (status, error) == (130, "quantkeras: interrupted\n")
    else:
        assert status == 2 and error.startswith("quantkeras: error: ") and "No space left" in error
    assert contents(work) == before


def test_a_run_interrupted_while_keras_writes_keeps_the_old_file(work, capsys, monkeypatch):
    before = contents(work)

    def half_way(self, path, **options):
        Path(path).write_bytes(b"half of a model")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save", half_way)
    assert main(["quantize", "-m", f"{work}/net.h5", "-sa", f"{work}/x.npz"]) == 130
    assert capsys.readouterr().err == "quantkeras: interrupted\n"
    assert contents(work) == before
    assert not [path for path in work.iterdir() if path.is_dir()]
