"""The callbacks in the real trainers: numbers arrive where checkpoints and stopping look."""

from pathlib import Path
from typing import Any

import pytest
from test_training import SPEC, held  # noqa: F401 (a fixture)

from evalkit.training import Verifier, callbacks

pytestmark = [
    pytest.mark.slow,  # the trainers are long to import; `tox -e training` has them
    pytest.mark.filterwarnings("ignore"),  # theirs
]

torch = pytest.importorskip("torch")


def data(n: int = 8) -> Any:
    drawn = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.utils.data.TensorDataset(drawn, torch.arange(n) % 2)


def test_lightning(held: Path) -> None:  # noqa: F811
    lightning = pytest.importorskip("lightning.pytorch")
    from small_networks import Plain

    class Trained(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Plain()

        def training_step(self, batch: Any, _: int) -> Any:
            return self.backbone(batch[0]).pow(2).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-3)

    lines: list[str] = []
    verifier = Verifier(held / "set.bin", spec=SPEC, log=lines.append)
    best = lightning.callbacks.ModelCheckpoint(held / "best", monitor="set/accuracy", mode="max")
    stop = lightning.callbacks.EarlyStopping("set/accuracy", mode="max", patience=1)
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callbacks.lightning(verifier, lambda m: m.backbone), best, stop],
    )
    trainer.fit(Trained(), torch.utils.data.DataLoader(data(), batch_size=4))
    assert [line.split(":")[0] for line in lines[:2]] == ["epoch 0", "epoch 1"]
    assert trainer.callback_metrics["set/accuracy"] == pytest.approx(verifier.value)
    assert Path(best.best_model_path).is_file()


def test_transformers(held: Path) -> None:  # noqa: F811
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from small_networks import Plain

    class Trained(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Plain()

        def forward(self, x: Any, labels: Any = None) -> Any:
            y = self.backbone(x)
            return {"loss": y.pow(2).mean(), "logits": y}

    rows = [{"x": x, "labels": y} for x, y in data()]
    lines: list[str] = []
    verifier = Verifier(held / "set.bin", spec=SPEC, log=lines.append)
    trainer = transformers.Trainer(
        model=Trained(),
        args=transformers.TrainingArguments(
            output_dir=str(held / "out"),
            num_train_epochs=2,
            eval_strategy="epoch",
            save_strategy="epoch",
            metric_for_best_model="set/accuracy",
            load_best_model_at_end=True,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[callbacks.trainer(verifier, lambda m: m.backbone)],
    )
    trainer.train()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert trainer.state.best_metric == pytest.approx(verifier.value)


def test_accelerate(held: Path) -> None:  # noqa: F811
    accelerate = pytest.importorskip("accelerate")
    from small_networks import Plain

    plain, lines = Plain(), list[str]()
    Verifier(held / "set.bin", spec=SPEC, log=lines.append)(plain, 0)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    prepared = accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare(plain)
    assert "_original_forward" in vars(prepared)
    Verifier(held / "set.bin", spec=SPEC, log=lines.append)(prepared, 0)
    assert lines[0] == lines[1]  # float32, outside accelerate's autocast
