//! Where rule files come from: a folder of the user's.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// One rule file, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As it is shown to people.
    pub path: PathBuf,
    pub text: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("read rules from {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("read rules from {}: folders are nested more than {DEPTH_MAX} deep, or a link leads back to itself", path.display())]
    TooDeep { path: PathBuf },
}

/// Deeper folders are an error: nobody files rules so deep, and a link to a parent folder would never end.
const DEPTH_MAX: usize = 16;

/// Every `*.rhai` file in `path` and the folders under it, sorted by path. A missing folder has none; a single file is taken as it is.
///
/// Names that begin with a dot are passed over: Kubernetes mounts a ConfigMap's files a second time under one. Bytes that are not UTF-8 become
/// U+FFFD, so that one bad file is reported by `load` like any other and does not stop the rest.
///
/// # Errors
/// [`ReadError`] names the file or folder that cannot be read.
pub fn read_folder(path: &Path) -> Result<Vec<Source>, ReadError> {
    let mut sources = Vec::new();
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(ReadError::Io { path: path.to_owned(), source }),
        Ok(metadata) if metadata.is_dir() => read_into(&mut sources, path, 0)?,
        Ok(_) => sources.push(read_file(path)?),
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn read_into(sources: &mut Vec<Source>, folder: &Path, depth: usize) -> Result<(), ReadError> {
    if depth == DEPTH_MAX {
        return Err(ReadError::TooDeep { path: folder.to_owned() });
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ReadError::Io { path, source }
    };
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if fs::metadata(&path).map_err(failed(&path))?.is_dir() {
            read_into(sources, &path, depth + 1)?;
        } else if path.extension().is_some_and(|extension| extension == "rhai") {
            sources.push(read_file(&path)?);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Source, ReadError> {
    let bytes = fs::read(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    Ok(Source { path: path.to_owned(), text: String::from_utf8_lossy(&bytes).into_owned() })
}
