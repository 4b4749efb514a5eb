"""`quantkeras onnx-quantize`."""

import json

import numpy as np
import onnx
import pytest
from onnx_nets import conv_net, images, operators, relative_error, run

from quantkeras import calibrate_onnx, quantize_onnx
from quantkeras.cli import main


@pytest.fixture
def files(tmp_path):
    onnx.save(conv_net(), tmp_path / "net.onnx")
    np.savez(tmp_path / "samples.npz", x=images())
    return tmp_path


def test_the_shortest_call(files, capsys):
    assert main(["onnx-quantize", "-m", str(files / "net.onnx")]) == 0
    found = onnx.load(files / "net_integer.onnx")
    assert found == quantize_onnx(files / "net.onnx")
    assert "net_integer.onnx: 2 ConvInteger, 2 MatMulInteger, 4 Dyn" in capsys.readouterr().out


def test_all_options(files, capsys):
    model, samples = str(files / "net.onnx"), str(files / "samples.npz")
    scales, output = files / "scales.json", files / "out.onnx"
    assert main([
        "onnx-quantize", "-m", model, "-sa", samples, "--mode", "qlinear", "--per-channel",
        "--method", "percentile:99.9", "-ns", "8", "-bs", "4", "--exclude", "c1, m", "-o",
        str(output), "--save-params", str(scales), "--op-types", "Conv,Gemm", "-wt", "uint8",
    ]) == 0  # fmt: skip
    found = operators(onnx.load(output))
    assert [found.count(op) for op in ("Conv", "QLinearConv", "QGemm", "MatMul")] == [1, 1, 1, 1]
    wanted = calibrate_onnx(model, images(), method="percentile:99.9", num_samples=8)
    read = json.loads(scales.read_text())
    assert {name: (pair[0], np.float32(pair[1])) for name, pair in read.items()} == wanted
    capsys.readouterr()
    assert main(["onnx-quantize", "-m", model, "--params", str(scales), "-o", str(output)]) == 0
    assert "4 QuantizeLinear" in capsys.readouterr().out
    x = images()
    assert relative_error(run(onnx.load(output), x)[0], run(conv_net(), x)[0]) < 0.02
    arguments = ["onnx-quantize", "-m", model, "--mode", "qlinear", "--dynamic", "-sa", samples]
    assert main([*arguments, "-o", str(output), "--nodes", "c2"]) == 0
    assert operators(onnx.load(output)).count("QLinearConv") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "fast"], "mode is 'integer', 'qlinear', 'qdq', not 'fast'"),
        (["--mode", "qdq"], "give them in quantization_params, or give samples"),
        (["--exclude", "c9"], "there is no node 'c9' in 'net'. Did you mean"),
        (["-o", "net.h5"], "its name has to be *.onnx"),
        (["--save_params", "a.json"], "add -sa"),
        (["--params", "net.onnx"], "net.onnx is no JSON file"),
        (["--params", "list.json"], "list.json holds no scales"),
        (["-sa", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_mistakes_are_one_line(files, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(files)
    (files / "list.json").write_text("[1]")
    assert main(["onnx-quantize", "-m", "net.onnx", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
