import subprocess
import sys

import pytest
import torch

from celllm.optimiser import adam
from celllm.training.settings import PretrainSettings


@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_those_of_pytorch(fused):
    settings = PretrainSettings(learning_rate=0.01, weight_decay=0.1)
    ours, theirs = (torch.nn.Linear(3, 2) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    one = adam(ours.parameters(), settings, fused=fused)
    other = torch.optim.Adam(theirs.parameters(), 0.01, weight_decay=0.1, fused=fused)
    x = torch.randn(5, 3)
    for _ in range(4):
        for model, optimiser in ((ours, one), (theirs, other)):
            optimiser.zero_grad()
            model(x).square().mean().backward()
            optimiser.step()
        one.load_state_dict(one.state_dict())
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))
    assert one.state_dict()["state"].keys() == other.state_dict()["state"].keys()
    assert not any(p.requires_grad for state in one.state.values() for p in state.values())


@pytest.mark.parametrize("fused", ["True", "False"])
def test_nothing_imports_the_compiler(fused):
    code = (
        "import sys, torch; from celllm.optimiser import adam;"
        "from celllm.training.settings import PretrainSettings; model = torch.nn.Linear(2, 2);"
        f"o = adam(model.parameters(), PretrainSettings(), fused={fused});"
        "schedule = torch.optim.lr_scheduler.CosineAnnealingLR(o, 3);"
        "o.zero_grad(); model(torch.ones(1, 2)).sum().backward(); o.step(); schedule.step();"
        "o.load_state_dict(o.state_dict()); sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
