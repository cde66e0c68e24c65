"""What a preset will take."""

import json

import pytest
from typer.testing import CliRunner

from cspipe.cli.main import app
from cspipe.cli.plan import stages_work
from cspipe.config.overlays import read_preset
from cspipe.config.params_file import parse_params
from cspipe.config.workload import costs


def test_work_of_the_stages_is_that_of_the_counted_nets() -> None:
    params = parse_params(read_preset("demo").tree, "demo")
    main, module = costs(params)
    found = {work.stage: work for work in stages_work(params)}
    path = 1.0 * 0.3 / 2  # share x fade / 2
    assert found["train"].flop == pytest.approx(48000 * (main.training + path * (main.forward + module.forward)))
    assert found["sample@cs-10"].flop == pytest.approx(512 * 10 * (main.forward + module.forward))
    assert found["sample@ddim-100"].flop == pytest.approx(512 * 100 * main.forward)


def test_the_fit_of_c_is_left_out_where_the_number_of_images_is_not_known() -> None:
    done = CliRunner().invoke(app, ["plan", "fsg-deocclude"], catch_exceptions=False)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["train", "sample@ddim-100"]
    assert "compensate: not known, as how many images fsg has" in done.stdout


@pytest.mark.parametrize("device", ["h100", pytest.param("measured", marks=pytest.mark.slow)])
def test_every_stage_has_a_line_that_says_where_the_speed_is_from(device: str) -> None:
    done = CliRunner().invoke(app, ["plan", "demo", "--device", device])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["train", "compensate", "sample@ddim-100"]
    assert ("assumed" in lines[-1]) == (device != "measured")


def test_the_table_is_there_as_json() -> None:
    done = CliRunner().invoke(app, ["plan", "demo", "--device", "h100", "--json"], catch_exceptions=False)
    stages = {row["stage"]: row for row in json.loads(done.stdout)["stages"]}
    assert stages["train"]["kwh"] == pytest.approx(stages["train"]["hours"] * 0.7)
    assert stages["sample@cs-10"]["images"] == 512
