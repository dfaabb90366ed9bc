//! Compiles the C++ ring, which needs a C++17 compiler and nothing else; with feature `cuda` also
//! the kernels, the driver's loader and the NVTX shim: with nvcc for a GPU, or, where
//! `TWINSTREAM_CUDA=emulated`, with the host's compiler for the emulated device. It also finds
//! where the commit of the sources stands.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(loom)");
    println!("cargo::rustc-check-cfg=cfg(twinstream_emulated)");
    println!("cargo::rustc-check-cfg=cfg(twinstream_sm_90a)");
    ring();
    name_build();
    #[cfg(feature = "cuda")]
    cuda::build();
    if env::var_os("CARGO_CFG_LOOM").is_some() {
        loom();
    }
}

fn ring() {
    println!("cargo::rerun-if-changed=cuda/ring");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .files(["cuda/ring/ring.cpp", "cuda/ring/storage.cpp"])
        .flags(["-Wpedantic", "-Wshadow", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"])
        // The ring calls nothing of the C++ runtime, so services need not link it.
        .cpp_link_stdlib(None);
    if cfg!(feature = "cuda") {
        build.define("TWINSTREAM_RING_CUDA", None);
    }
    build.compile("twinstream_ring");
}

/// Tells `src/build_info.rs` the target, and the file whose last line ends with the commit: git's
/// log of HEAD. The compiler reads it, so that a commit compiles the library anew but runs none of
/// this again. A packaged crate has the commit in a file of cargo's; elsewhere there is none.
fn name_build() {
    let target = env::var("TARGET").expect("cargo sets TARGET");
    println!("cargo::rustc-env=TWINSTREAM_TARGET={target}");
    let log = git_log().unwrap_or_else(|| {
        let log = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("HEAD");
        let line = packaged_commit().map_or(String::new(), |commit| format!("- {commit}\n"));
        fs::write(&log, line).expect("OUT_DIR can be written");
        log
    });
    println!("cargo::rustc-env=TWINSTREAM_HEAD_LOG={}", log.display());
}

/// What git notes each new commit in, where these sources are a checkout.
fn git_log() -> Option<PathBuf> {
    let git = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join(".git");
    let folder = match fs::read_to_string(&git) {
        // A worktree or a submodule.
        Ok(text) => git.parent()?.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => git,
    };
    Some(folder.join("logs/HEAD")).filter(|log| log.is_file())
}

fn packaged_commit() -> Option<String> {
    let text = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

fn loom() {
    println!("cargo::rerun-if-changed=tests/loom_ring.cpp");
    // Exceptions stay on: a failed check unwinds from the model checker through these frames.
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include("cuda/ring")
        .file("tests/loom_ring.cpp")
        .cargo_metadata(false)
        .compile("twinstream_loom_ring");
    let folder = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    println!("cargo::rustc-link-search=native={folder}");
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::ffi::OsStr;
    use std::path::{Path, PathBuf};
    use std::process::{Command, exit};
    use std::{env, fs};

    /// Where `scripts/cuda-toolkit.sh` puts a toolkit.
    const TOOLKIT: &str = "target/cuda-toolkit";
    /// Compiled for unless `TWINSTREAM_CUDA_TARGETS` says otherwise; the newest as PTX too, for
    /// devices that are newer still.
    const TARGETS: &str = "80,86,89,90a";
    /// The folder of `cuda/` whose kernels run on compute capability 9.0 alone, the target that
    /// they are compiled for, and the first nvcc that knows all their instructions.
    const ALONE: (&str, &str) = ("sm90a", "90a");
    const ALONE_NVCC: (u32, u32) = (12, 4);
    const NVTX_HEADER: &str = "nvtx3/nvToolsExt.h";

    /// Says what is wrong and ends the build.
    fn fail(message: &str) -> ! {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
        exit(1);
    }

    /// The environment variable, where it is set and not empty.
    fn variable(name: &str) -> Option<String> {
        println!("cargo::rerun-if-env-changed={name}");
        env::var(name).ok().filter(|value| !value.is_empty())
    }

    pub fn build() {
        println!("cargo::rerun-if-changed=cuda");
        nvtx();
        match variable("TWINSTREAM_CUDA").as_deref() {
            None => real(),
            Some("emulated") => emulated(),
            Some(other) => {
                fail(&format!("TWINSTREAM_CUDA is \"{other}\": expected \"emulated\", or nothing"))
            }
        }
    }

    /// Kernels, emulator and the driver's double, all by the host's compiler.
    fn emulated() {
        println!("cargo::rustc-cfg=twinstream_emulated");
        println!("cargo::rustc-cfg=twinstream_sm_90a");
        // For the build scripts of packages that use this one.
        println!("cargo::metadata=emulated=1");
        let kernels = kernels();
        let hosts = [files("cuda/emulator", "cpp"), files("cuda/emulator/driver", "cpp")].concat();
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++17")
            .opt_level(2)
            // The suffix .cu means nothing to a host compiler.
            .flags(["-x", "c++", "-Wpedantic", "-Wshadow", "-fvisibility=hidden"])
            // Kernels look at the same memory as words of several types.
            .flag("-fno-strict-aliasing")
            .files(kernels)
            .files(hosts);
        build.compile("twinstream_driver");
    }

    /// The kernels by nvcc, a fat binary for each file, and the lazy loader of the driver.
    fn real() {
        let nvcc = nvcc().unwrap_or_else(|| {
            fail(&format!(
                "feature `cuda` needs nvcc: none in NVCC, CUDA_HOME, CUDA_PATH, PATH, \
                 /usr/local/cuda or {TOOLKIT}\n\
                 either install a toolkit without root: scripts/cuda-toolkit.sh {TOOLKIT}\n\
                 or build for the emulated device: TWINSTREAM_CUDA=emulated cargo build ..."
            ))
        });
        let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        let targets = variable("TWINSTREAM_CUDA_TARGETS").unwrap_or_else(|| TARGETS.to_owned());
        let has_alone = compiles_alone(&nvcc, &targets);
        let compile = |file: PathBuf| {
            let is_alone = file.parent().is_some_and(|folder| folder.ends_with(ALONE.0));
            if is_alone && !has_alone {
                return String::new();
            }
            let name = file.file_stem().expect("a file's path ends in its name");
            let fatbin = folder.join(name).with_extension("fatbin");
            let codes = if is_alone { vec![machine_code(ALONE.1)] } else { codes(&targets) };
            fat_binary(&nvcc, &codes, &file, &fatbin);
            // The host looks a kernel up in the module that is called as its file.
            let alone = if is_alone { "Some((9, 0))" } else { "None" };
            format!("({name:?}, {alone}, include_bytes!({fatbin:?})),\n")
        };
        let list: String = kernels().into_iter().map(compile).collect();
        let all = folder.join("fatbins.rs");
        fs::write(&all, format!("&[{list}]"))
            .unwrap_or_else(|error| fail(&format!("{}: {error}", all.display())));
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .file("cuda/driver/loader.cpp")
            .flags(["-Wpedantic", "-Wshadow", "-fno-exceptions", "-fno-rtti"])
            // A first call needs no lock: whoever races finds the same.
            .flags(["-fno-threadsafe-statics", "-fvisibility=hidden"])
            .cpp_link_stdlib(None)
            .compile("twinstream_driver");
        println!("cargo::rustc-link-lib=dl");
    }

    /// Whether there are to be kernels for one architecture alone; where not, devices of it run
    /// those that are for all.
    fn compiles_alone(nvcc: &Path, targets: &str) -> bool {
        let (folder, target) = ALONE;
        let ((major, minor), version) = (ALONE_NVCC, nvcc_version(nvcc));
        let lacks = if !targets.split(',').any(|it| it == target) {
            Some(format!("{target} is not in TWINSTREAM_CUDA_TARGETS={targets}"))
        } else if version < Some(ALONE_NVCC) {
            let found = version.map_or("unknown".to_owned(), |it| format!("{}.{}", it.0, it.1));
            Some(format!("they take nvcc {major}.{minor} or newer, {} is {found}", nvcc.display()))
        } else {
            println!("cargo::rustc-cfg=twinstream_sm_90a");
            None
        };
        if let Some(lacks) = &lacks {
            println!("cargo::warning=kernels of cuda/{folder} are left out: {lacks}");
        }
        lacks.is_none()
    }

    /// Of `Cuda compilation tools, release 13.0, V13.0.88`.
    fn nvcc_version(nvcc: &Path) -> Option<(u32, u32)> {
        let output = Command::new(nvcc).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (major, rest) = text.split_once("release ")?.1.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    /// nvcc's option for the machine code of a target.
    fn machine_code(target: &str) -> String {
        format!("-gencode=arch=compute_{target},code=sm_{target}")
    }

    /// nvcc's options for targets: machine code for each, and of the last one PTX too.
    fn codes(targets: &str) -> Vec<String> {
        // PTX with features of one architecture alone ("90a") would run on no other.
        let newest = targets.rsplit(',').next().unwrap_or_default();
        let newest = newest.trim_end_matches(char::is_alphabetic);
        let newest = format!("-gencode=arch=compute_{newest},code=compute_{newest}");
        targets.split(',').map(machine_code).chain([newest]).collect()
    }

    /// Compiles a file's kernels.
    fn fat_binary(nvcc: &Path, codes: &[String], file: &Path, fatbin: &Path) {
        let mut command = Command::new(nvcc);
        command.args(["-fatbin", "-std=c++17", "-O3", "-lineinfo", "--threads", "0"]);
        command.args(codes).arg(file).arg("-o").arg(fatbin);
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => fail(&format!("nvcc ended with {status}: {command:?}")),
            Err(error) => fail(&format!("cannot run {}: {error}", nvcc.display())),
        }
    }

    /// The kernels' sources: of `cuda` itself and of its folders by architecture.
    fn kernels() -> Vec<PathBuf> {
        let is_architecture = |name: &OsStr| name.as_encoded_bytes().starts_with(b"sm");
        let folders = entries("cuda").into_iter().filter(|path| path.is_dir());
        let folders = folders.filter(|path| path.file_name().is_some_and(is_architecture));
        let folders = std::iter::once(PathBuf::from("cuda")).chain(folders);
        let found: Vec<PathBuf> = folders.flat_map(|folder| files(folder, "cu")).collect();
        // A module is called as its file, wherever that lies.
        for (index, file) in found.iter().enumerate() {
            if let Some(other) = found[..index].iter().find(|o| o.file_name() == file.file_name()) {
                fail(&format!("{} and {}: one name, two modules", other.display(), file.display()));
            }
        }
        found
    }

    /// The files of `folder` with this suffix, in order.
    fn files(folder: impl AsRef<Path>, suffix: &str) -> Vec<PathBuf> {
        let mut found = entries(folder);
        found.retain(|path| path.extension() == Some(OsStr::new(suffix)));
        found
    }

    /// What lies in `folder`, in order.
    fn entries(folder: impl AsRef<Path>) -> Vec<PathBuf> {
        let folder = folder.as_ref();
        let entries = fs::read_dir(folder)
            .unwrap_or_else(|error| fail(&format!("{}: {error}", folder.display())));
        let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.sort();
        found
    }

    fn nvcc() -> Option<PathBuf> {
        if let Some(nvcc) = variable("NVCC") {
            return Some(nvcc.into());
        }
        let below = |folder: &Path| Some(folder.join("bin/nvcc")).filter(|nvcc| nvcc.is_file());
        let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
        homes
            .filter_map(|home| below(Path::new(&home)))
            .next()
            .or_else(|| {
                let path = variable("PATH")?;
                env::split_paths(&path)
                    .map(|folder| folder.join("nvcc"))
                    .find(|path| path.is_file())
            })
            .or_else(|| ["/usr/local/cuda", TOOLKIT].iter().find_map(|home| below(Path::new(home))))
    }

    /// NVTX's headers come with the toolkit; without them there are no ranges, as the build says.
    fn nvtx() {
        let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
        let homes = homes.map(PathBuf::from).chain(["/usr/local/cuda", TOOLKIT].map(PathBuf::from));
        let beside = nvcc().and_then(|nvcc| Some(nvcc.parent()?.parent()?.to_owned()));
        let mut headers = homes.chain(beside).map(|home| home.join("include"));
        let headers = headers.find(|folder| folder.join(NVTX_HEADER).is_file());
        let mut build = cc::Build::new();
        build.file("cuda/driver/nvtx.c").std("c11").flag("-fvisibility=hidden");
        match headers {
            Some(folder) => {
                println!("cargo::rerun-if-changed={}", folder.join(NVTX_HEADER).display());
                // From this the test of the ranges, in another package, knows that there are any.
                println!("cargo::metadata=nvtx_headers={}", folder.display());
                build.define("TWINSTREAM_NVTX", None).include(folder);
            }
            None if variable("TWINSTREAM_CUDA").is_none() => println!(
                "cargo::warning=no NVTX ranges for profilers: {NVTX_HEADER} is not beside nvcc"
            ),
            // Profilers have nothing to see of the emulated device.
            None => {}
        }
        build.compile("twinstream_nvtx");
    }
}
