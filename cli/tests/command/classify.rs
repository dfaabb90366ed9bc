//! `twinstream classify` and `evaluate`, as the shell sees them: the built program, its streams and
//! its exit status.
//!
//! Goal: right classes on the example images, output that scripts can rely on, and for every bad
//! input a message that names it while the other inputs are answered.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::{self, repository};
use safetensors::SafeTensors;
use serde_json::Value;
use twinstream::backend::cpu::vector_instructions;
use twinstream::lower::DType;

/// Exit status for "could not do the work", "wrong usage" and "some inputs failed".
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const SOME_FAILED: i32 = 3;

fn twinstream(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twinstream"))
        .current_dir(repository(""))
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// The objects of a `--json` output, one a line.
fn objects(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder of its own for a test, empty.
fn scratch(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn example(file: &str) -> String {
    repository("examples/images").join(file).to_str().unwrap().to_owned()
}

/// The example images and their classes.
fn examples() -> Vec<(String, String)> {
    let labels = common::cifar_model().config().label_names.clone();
    let cifar = labels.into_iter().map(|label| (example(&format!("cifar-{label}.png")), label));
    let photos = [("cat-chelsea.jpg", "cat"), ("horse-silhouette.png", "horse")];
    let photos = photos.map(|(file, label)| (example(file), label.to_owned()));
    cifar.chain(photos).collect()
}

#[test]
fn example_images_get_their_classes() {
    let examples = examples();
    let mut arguments = vec!["classify", "--json", "--logits", "--top", "3", "--batch", "5"];
    arguments.extend(examples.iter().map(|(path, _)| path.as_str()));
    let output = twinstream(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let answers = objects(&output);
    assert_eq!(answers.len(), examples.len());
    for (answer, (path, label)) in answers.iter().zip(&examples) {
        assert_eq!(answer["path"], *path);
        assert_eq!(answer["top"][0]["class"], *label, "{answer}");
        let top = answer["top"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        let probability = |rank: usize| top[rank]["probability"].as_f64().unwrap();
        assert!(probability(0) > probability(1) && probability(1) >= probability(2));
        let logits = answer["logits"].as_array().unwrap();
        let best = (0..10)
            .max_by(|&a, &b| logits[a].as_f64().unwrap().total_cmp(&logits[b].as_f64().unwrap()));
        assert_eq!(top[0]["index"].as_u64(), best.map(|index| index as u64));
    }
}

/// The README's first command prints what the README shows.
#[test]
fn the_readme_shows_what_is_printed() {
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    let (_, shown) = readme.split_once("```text\n").unwrap();
    let (shown, _) = shown.split_once("…").unwrap();
    let path = shown.lines().next().unwrap();
    let output = twinstream(&["classify", path]);
    assert!(stdout(&output).starts_with(shown), "{}", stdout(&output));
}

#[test]
fn classes_are_the_same_without_logits() {
    let image = example("cat-chelsea.jpg");
    let arguments = ["classify", "--json", "--top", "4", &image];
    let (ranked, logits) = (twinstream(&arguments), [&arguments[..], &["--logits"]].concat());
    let logits = twinstream(&logits);
    assert!(objects(&ranked)[0]["logits"].is_null());
    assert_eq!(objects(&ranked)[0]["top"], objects(&logits)[0]["top"]);
    // More than there are.
    let all = twinstream(&["classify", "--json", "--top", "99", &image]);
    assert_eq!(objects(&all)[0]["top"].as_array().unwrap().len(), 10);
}

#[test]
fn logits_are_pytorchs_to_the_last_image() {
    let Some(data) = common::shared_data("logits of the CIFAR test images") else { return };
    let reference = fs::read(data.join("reference.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&reference).unwrap();
    let expected = common::f32_tensor(&reference, "cifar_logits");
    let labels = common::cifar_model().config().label_names.clone();
    let mut images: Vec<String> = Vec::new();
    for label in &labels {
        let file = |number| format!("cifar10-test/{label}/{number:04}.png");
        images.extend((0..100).map(|n| data.join(file(n)).to_str().unwrap().to_owned()));
    }
    let mut arguments = vec!["classify", "--json", "--logits"];
    arguments.extend(images.iter().map(String::as_str));
    let output = twinstream(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let found: Vec<f32> = objects(&output)
        .iter()
        .flat_map(|answer| answer["logits"].as_array().unwrap())
        .map(|logit| logit.as_f64().unwrap() as f32)
        .collect();
    let (index, difference) = common::worst(&found, &expected);
    println!("worst logit: {difference:e} of image {}", index / labels.len());
    assert!(difference <= 1e-4);

    let folder = data.join("cifar10-test");
    let output = twinstream(&["evaluate", "--json", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let [summary] = &objects(&output)[..] else { panic!("{}", stdout(&output)) };
    assert_eq!(summary["images"], 1000);
    assert_eq!(summary["top1"], 0.787);
    assert_eq!(summary["top5"], 0.993);
    assert!(summary["images_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn people_get_a_table() {
    let path = example("cifar-ship.png");
    let output = twinstream(&["classify", "--top", "1", "--threads", "1", &path]);
    assert!(output.status.success(), "{}", stderr(&output));
    let [name, class] = stdout(&output).lines().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!(name, path);
    assert!(class.contains(" %  ship"), "{class}");
    assert_eq!(stderr(&output), "");
}

#[test]
fn input_size_can_be_chosen() {
    let path = example("cat-chelsea.jpg");
    let output = twinstream(&["classify", "--json", "--size", "96x64", &path]);
    assert!(output.status.success(), "{}", stderr(&output));
    let small = twinstream(&["classify", "--json", &path]);
    assert_ne!(objects(&output)[0]["top"], objects(&small)[0]["top"]);
}

#[test]
fn bad_images_are_reported_and_the_others_answered() {
    let folder = scratch("bad_images");
    let photo = fs::read(example("cat-chelsea.jpg")).unwrap();
    let png = fs::read(example("cifar-dog.png")).unwrap();
    let bad = [
        ("truncated.jpg", photo[..photo.len() / 2].to_vec(), "truncated JPEG"),
        ("truncated.png", png[..png.len() / 2].to_vec(), "PNG"),
        ("fake.png", b"not a picture".to_vec(), "not an image"),
        ("fake.jpg", b"\xff\xd8\xff\xe0 nor this one \xff\xd9".to_vec(), "JPEG"),
        ("empty.png", Vec::new(), "empty"),
        ("animation.gif", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(), "GIF"),
    ];
    let good = example("cifar-frog.png");
    let mut arguments = vec![good.clone()];
    for (file, bytes, _) in &bad {
        fs::write(folder.join(file), bytes).unwrap();
        arguments.push(folder.join(file).to_str().unwrap().to_owned());
    }
    arguments.push(folder.join("absent.png").to_str().unwrap().to_owned());
    arguments.push(folder.to_str().unwrap().to_owned());
    arguments.push(good.clone());
    let mut reasons = vec![None];
    reasons.extend(bad.iter().map(|(.., reason)| Some(*reason)));
    reasons.extend([Some("No such file"), Some("a folder"), None]);

    let json: Vec<&str> =
        ["classify", "--json"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let output = twinstream(&json);
    assert_eq!(output.status.code(), Some(SOME_FAILED), "{}", stderr(&output));
    let answers = objects(&output);
    assert_eq!(answers.len(), arguments.len());
    for ((answer, path), reason) in answers.iter().zip(&arguments).zip(reasons) {
        assert_eq!(answer["path"], *path);
        match reason {
            Some(reason) => {
                let error = answer["error"].as_str().unwrap();
                assert!(error.contains(reason) && error.contains(path.as_str()), "{error}");
            }
            None => assert_eq!(answer["top"][0]["class"], "frog"),
        }
    }

    let table: Vec<&str> =
        ["classify"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let output = twinstream(&table);
    assert_eq!(output.status.code(), Some(SOME_FAILED));
    assert_eq!(stdout(&output).matches(" %  frog").count(), 2);
    assert_eq!(stderr(&output).lines().count(), bad.len() + 2, "{}", stderr(&output));

    let output = twinstream(&["classify", "--json", &arguments[1]]);
    assert_eq!(output.status.code(), Some(FAILED));
    assert_eq!(objects(&output).len(), 1);
    assert!(stderr(&output).contains("no image could be read"));
}

#[cfg(unix)]
#[test]
fn a_path_need_not_be_unicode() {
    use std::os::unix::ffi::OsStrExt;
    let path = scratch("not_unicode").join(std::ffi::OsStr::from_bytes(b"sh\xffip.png"));
    fs::copy(example("cifar-ship.png"), &path).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinstream"));
    let output = command.args(["classify", "--json"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(objects(&output)[0]["path"].as_str().unwrap().ends_with("sh\u{fffd}ip.png"));
}

#[cfg(target_os = "linux")]
#[test]
fn an_unreadable_file_is_named() {
    // Opens, for root as well, but its first byte cannot be read.
    let unreadable = "/proc/self/mem";
    let output = twinstream(&["classify", unreadable, &example("cifar-ship.png")]);
    assert_eq!(output.status.code(), Some(SOME_FAILED));
    assert!(stderr(&output).contains(unreadable), "{}", stderr(&output));
    assert!(stdout(&output).contains("ship"));
}

#[test]
fn wrong_usage_is_told_apart() {
    let image = example("cifar-ship.png");
    for (arguments, reason) in [
        (&["classify"][..], "IMAGES"),
        (&["classify", "--threads", "0", &image], "from 1"),
        (&["classify", "--threads", "100000", &image], "100000 threads"),
        (&["classify", "--batch", "0", &image], "from 1"),
        (&["classify", "--top", "0", &image], "from 1"),
        (&["classify", "--backend", "tpu", &image], "possible values: cpu, cuda"),
        (&["classify", "--device", "1", &image], "--device changes nothing with --backend cpu"),
        (&["evaluate", "--no-graphs", "absent"], "--no-graphs changes nothing with --backend cpu"),
        (&["classify", "--size", "32", &image], "HEIGHTxWIDTH"),
        (&["classify", "--size", "8x8", &image], "8"),
        (&["classify", "--logits", &image], "--json"),
        (&["classify", "--colour", &image], "--colour"),
        (&["evaluate"], "DIR"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = twinstream(arguments);
        assert_eq!(output.status.code(), Some(USAGE), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn what_cannot_be_done_is_explained() {
    let image = example("cifar-ship.png");
    let folder = scratch("explained");
    let file = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).unwrap();
        folder.join(name).to_str().unwrap().to_owned()
    };
    let (fake, config) = (file("fake.safetensors", b"weights?"), file("bad.json", b"{"));
    let absent = folder.join("absent.safetensors").to_str().unwrap().to_owned();
    for (arguments, reason) in [
        #[cfg(not(feature = "cuda"))]
        (&["classify", "--backend", "cuda", &image][..], "no GPU backend"),
        (&["classify", "--weights", &absent, &image][..], "absent.safetensors"),
        (&["classify", "--weights", &fake, "--config", &config, &image], "bad.json"),
        (&["classify", "--weights", &fake, &image], "fake.safetensors"),
        (&["evaluate", "--weights", &fake, folder.to_str().unwrap()], "fake.safetensors"),
        (&["evaluate", &image], "cifar-ship.png: not a folder"),
        (&["evaluate", &absent], "absent.safetensors"),
    ] {
        let output = twinstream(arguments);
        assert_eq!(output.status.code(), Some(FAILED), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn evaluate_checks_its_folders() {
    let folder = scratch("evaluate");
    let dir = folder.to_str().unwrap();
    let fails = |reason: &str| {
        let output = twinstream(&["evaluate", dir]);
        assert_eq!(output.status.code(), Some(FAILED), "{}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    };
    fails("no class folders");
    fs::create_dir(folder.join("ship")).unwrap();
    fails("no images");
    fs::copy(example("cifar-ship.png"), folder.join("ship/a.png")).unwrap();
    fs::create_dir(folder.join("submarine")).unwrap();
    fails("submarine: no class of the model; they are airplane, automobile");
    fs::remove_dir(folder.join("submarine")).unwrap();

    fs::create_dir(folder.join("truck")).unwrap();
    fs::copy(example("cifar-cat.png"), folder.join("truck/a.png")).unwrap();
    fs::write(folder.join("truck/b.png"), "not a picture").unwrap();
    fs::write(folder.join("README"), "not a class").unwrap();
    let output = twinstream(&["evaluate", "--json", dir]);
    assert_eq!(output.status.code(), Some(SOME_FAILED), "{}", stderr(&output));
    let [failure, summary] = &objects(&output)[..] else { panic!("{}", stdout(&output)) };
    assert!(failure["path"].as_str().unwrap().ends_with("b.png"));
    assert!(failure["error"].as_str().unwrap().contains("not an image"));
    assert_eq!((&summary["images"], &summary["top1"]), (&2.into(), &0.5.into()));
    let output = twinstream(&["evaluate", dir]);
    assert_eq!(output.status.code(), Some(SOME_FAILED));
    assert!(stdout(&output).contains("50.00 %"), "{}", stdout(&output));
}

/// Goal: a model without label names is held to torchvision's rule, and to all of it. Method: the
/// example images in folders whose names say nothing but their order, then with one too few.
#[test]
fn evaluate_takes_folders_in_order_where_classes_have_no_names() {
    let folder = scratch("evaluate_in_order");
    let config = folder.join("config.json");
    let named = fs::read_to_string(repository("models/resnet50-cifar10/config.json")).unwrap();
    let mut unnamed: Value = serde_json::from_str(&named).unwrap();
    let labels = unnamed.as_object_mut().unwrap().remove("label_names").unwrap();
    fs::write(&config, unnamed.to_string()).unwrap();
    let images = folder.join("validation");
    // Made last to first: the order must not be that of the file system.
    for (index, label) in labels.as_array().unwrap().iter().enumerate().rev() {
        let (class, label) = (images.join(format!("n{index:02}")), label.as_str().unwrap());
        fs::create_dir_all(&class).unwrap();
        fs::copy(example(&format!("cifar-{label}.png")), class.join("a.png")).unwrap();
    }
    fs::write(images.join("README"), "not a class").unwrap();
    let [images_path, config] = [&images, &config].map(|path| path.to_str().unwrap());
    let evaluate = || twinstream(&["evaluate", "--json", "--config", config, images_path]);

    let output = evaluate();
    assert!(output.status.success(), "{}", stderr(&output));
    let [summary] = &objects(&output)[..] else { panic!("{}", stdout(&output)) };
    assert_eq!((&summary["images"], &summary["top1"]), (&10.into(), &1.0.into()));

    fs::remove_dir_all(images.join("n04")).unwrap();
    let output = evaluate();
    assert_eq!(output.status.code(), Some(FAILED), "{}", stderr(&output));
    for words in [images_path, "9 class folders", "10 classes", "label_names", "--config"] {
        assert!(stderr(&output).contains(words), "{words}: {}", stderr(&output));
    }
}

/// Goal: a class is all images below its folder, as torchvision's `ImageFolder` has it. Method: one
/// image for each way to be found, and one file for each way to be left out.
#[cfg(unix)]
#[test]
fn evaluate_walks_folders_as_torchvision_does() {
    use std::os::unix::fs::symlink;
    let folder = scratch("evaluate_walk");
    let root = folder.join("root");
    fs::create_dir_all(root.join("ship/deep/deeper")).unwrap();
    fs::create_dir_all(root.join("ship/.ipynb_checkpoints")).unwrap();
    fs::create_dir_all(root.join(".git")).unwrap();
    fs::create_dir_all(folder.join("elsewhere/more")).unwrap();
    let ship = fs::read(example("cifar-ship.png")).unwrap();
    for path in [
        "root/ship/a.png",
        "root/ship/b.JPEG",
        "root/ship/deep/c.Tiff",
        "root/ship/deep/deeper/d.webp",
        "elsewhere/more/e.pgm",
    ] {
        fs::write(folder.join(path), &ship).unwrap();
    }
    symlink(folder.join("elsewhere"), root.join("ship/link")).unwrap();
    symlink(root.join("ship/a.png"), root.join("ship/f.bmp")).unwrap();
    // A whole class by a link.
    fs::create_dir(folder.join("trucks")).unwrap();
    fs::copy(example("cifar-truck.png"), folder.join("trucks/g.ppm")).unwrap();
    symlink(folder.join("trucks"), root.join("truck")).unwrap();
    symlink(root.join("ship"), root.join("ship/deep/loop")).unwrap();
    for path in [
        "README",
        "ship/Thumbs.db",
        "ship/desktop.ini",
        "ship/deep/notes.txt",
        "ship/no_ending",
        "ship/._a.png",
        "ship/.ipynb_checkpoints/a.png",
    ] {
        fs::write(root.join(path), "not a picture").unwrap();
    }
    let output = twinstream(&["evaluate", "--json", root.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let [summary] = &objects(&output)[..] else { panic!("{}", stdout(&output)) };
    assert_eq!((&summary["images"], &summary["top1"]), (&7.into(), &1.0.into()));
    // Of a hidden folder the folder alone counts; the loop counts too.
    assert_eq!(summary["left_out"], 9, "{}", stderr(&output));
    assert!(stderr(&output).contains("no images by their names: 9, such as "), "{output:?}");

    fs::create_dir_all(root.join("cat/empty")).unwrap();
    fs::write(root.join("cat/notes.txt"), "").unwrap();
    fs::create_dir(root.join("dog")).unwrap();
    let output = twinstream(&["evaluate", root.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(FAILED));
    for words in ["root/cat, ", "root/dog: has no images", "jpg, jpeg, png"] {
        assert!(stderr(&output).contains(words), "{words}: {}", stderr(&output));
    }
}

#[test]
fn a_name_that_two_classes_have_is_refused() {
    let folder = scratch("evaluate_twins");
    let root = folder.join("root");
    fs::create_dir_all(root.join("crane")).unwrap();
    let config = folder.join("config.json");
    let names = ["crane", "b", "c", "d", "e", "f", "g", "h", "i", "crane"];
    fs::write(&config, serde_json::json!({"label_names": names}).to_string()).unwrap();
    let [root, config] = [&root, &config].map(|path| path.to_str().unwrap());
    let output = twinstream(&["evaluate", "--config", config, root]);
    assert_eq!(output.status.code(), Some(FAILED));
    assert!(stderr(&output).contains("crane: two classes have this name, 0 and 9"), "{output:?}");
}

/// Text shows them escaped, JSON has its own escapes.
#[test]
fn control_characters_in_names_are_not_obeyed() {
    let config = scratch("control_characters").join("config.json");
    let name = "a\n\u{1b}[31mé";
    fs::write(&config, serde_json::json!({"label_names": vec![name; 10]}).to_string()).unwrap();
    let (config, image) = (config.to_str().unwrap(), example("cifar-ship.png"));
    let classify = |format: &[&str]| {
        twinstream(&[&["classify", "--top", "1", "--config", config, &image], format].concat())
    };
    let output = classify(&[]);
    assert!(stdout(&output).ends_with("%  a\\n\\u{1b}[31mé\n"), "{output:?}");
    assert_eq!(objects(&classify(&["--json"]))[0]["top"][0]["class"], name);
}

#[test]
fn a_reader_may_leave_early() {
    let image = example("cifar-ship.png");
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinstream"));
    command.args(["classify", "--json", "--batch", "1"]).args(vec![image; 300]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn help_tells_the_exit_status() {
    for arguments in [&["--help"][..], &["classify", "--help"], &["evaluate", "--help"]] {
        let output = twinstream(arguments);
        assert!(output.status.success());
        assert!(stdout(&output).contains("some inputs failed, the others were answered"));
    }
}

/// Goal: each precision answers or says what is missing. Method: an image that all tell.
#[test]
fn a_precision_is_kept_to() {
    let cat = example("cifar-cat.png");
    let exact = objects(&twinstream(&["classify", "--json", "--logits", &cat]));
    let output = twinstream(&["classify", "--json", "--logits", "--precision", "bf16", &cat]);
    match vector_instructions(DType::BF16) {
        Some(_) => {
            let rounded = objects(&output);
            assert_eq!(rounded[0]["top"][0]["class"], "cat");
            assert_ne!(rounded[0]["logits"], exact[0]["logits"], "computed in f32");
        }
        None => assert!(stderr(&output).contains("use f32, or i8"), "{}", stderr(&output)),
    }
    let output = twinstream(&["classify", "--precision", "i8", &cat]);
    assert_eq!(output.status.code(), Some(USAGE));
    assert!(stderr(&output).contains("twinstream calibrate"), "{}", stderr(&output));
}
