"""Data and verdict of runs by MLPerf's LoadGen; see docs/LOADGEN.md:

    loadgen.py dataset WEIGHTS IMAGES FOLDER    # IMAGES: a folder a class, as `twinstream evaluate` reads it
    loadgen.py dataset-of-tests FILE FOLDER     # FILE: tests/data/cifar-reference.safetensors; tells PyTorch's top-1
    loadgen.py accuracy LOG FOLDER [TOP1]       # TOP1: the reference's, in per cent, of which 99 % are needed

FOLDER is what the systems under test take as `--dataset`: `images.rgb` has the pixels as the network sees them, u8 RGB, one image
behind the other, and `val_map.txt` a line an image, its name and class, as ImageNet's in MLPerf has. LOG is LoadGen's
mlperf_log_accuracy.json. `dataset` needs the Python package.
"""

import json
import struct
import sys
from pathlib import Path

# By MLPerf's rules, of the reference's.
NEEDED_SHARE = 0.99


def write(folder, images):
    """Images: pixels, name, class."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "images.rgb", "wb") as pixels, open(folder / "val_map.txt", "w") as classes:
        count = 0
        for image, name, index in images:
            pixels.write(image)
            classes.write(f"{name} {index}\n")
            count += 1
    print(f"{folder}: {count} images")


def dataset(weights, images, folder):
    import twinstream

    images = Path(images)
    folders = sorted(path for path in images.iterdir() if path.is_dir())
    with twinstream.Engine(weights) as engine:
        labels = list(engine.labels)
        if labels == [f"class {index}" for index in range(len(labels))]:
            labels = [path.name for path in folders]
        unknown = [path.name for path in folders if path.name not in labels]
        if unknown or len(labels) != engine.class_count:
            sys.exit(f"{images}: expected folders of {labels}, found {unknown or len(folders)}")

        def found():
            for path in folders:
                files = (file for file in path.rglob("*") if file.is_file())
                for file in sorted(file for file in files if not file.name.startswith(".")):
                    name = file.relative_to(images).as_posix().replace(" ", "_")
                    yield engine.prepare(file).array.tobytes(), name, labels.index(path.name)

        write(Path(folder), found())


def dataset_of_tests(source, folder):
    data = Path(source).read_bytes()
    (header_len,) = struct.unpack_from("<Q", data)
    header, data = json.loads(data[8 : 8 + header_len]), data[8 + header_len :]

    def tensor(name):
        begin, end = header[name]["data_offsets"]
        return data[begin:end]

    labels = [index for (index,) in struct.iter_unpack("<i", tensor("cifar_labels"))]
    pixels = tensor("cifar_pixels")
    image_bytes = len(pixels) // len(labels)
    images = (
        (pixels[place * image_bytes : (place + 1) * image_bytes], f"{place:08}", index)
        for place, index in enumerate(labels)
    )
    write(Path(folder), images)
    logits = struct.iter_unpack(f"<{header['cifar_logits']['shape'][1]}f", tensor("cifar_logits"))
    tell([values.index(max(values)) for values in logits], labels)


def tell(answers, labels):
    """The share that is right."""
    right = sum(answer == label for answer, label in zip(answers, labels, strict=True))
    print(f"top-1 {right} of {len(labels)} ({100 * right / len(labels):.2f} %)")
    return right / len(labels)


def accuracy(log, folder, reference=None):
    labels = [int(line.split()[-1]) for line in open(Path(folder) / "val_map.txt")]
    answers = {}
    for entry in json.loads(Path(log).read_text()):
        sample = entry["qsl_idx"]
        (answer,) = struct.unpack("<i", bytes.fromhex(entry["data"]))
        # MultiStream repeats samples to fill its last query.
        if answers.setdefault(sample, answer) != answer:
            sys.exit(f"{log}: sample {sample} was answered with {answers[sample]} and {answer}")
    if sorted(answers) != list(range(len(labels))):
        sys.exit(f"{log}: {len(answers)} of {len(labels)} samples were answered")
    share = tell([answers[sample] for sample in range(len(labels))], labels)
    if reference is not None and share < NEEDED_SHARE * float(reference) / 100:
        sys.exit(f"{log}: less than {NEEDED_SHARE:.0%} of the reference's {float(reference):.2f} %")


COMMANDS = {"dataset": dataset, "dataset-of-tests": dataset_of_tests, "accuracy": accuracy}

if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
