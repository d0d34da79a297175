//! The wanted fields, as a tree of names.

use super::text;

/// The index of a wanted field, or of an object on the way to one, in its [`Projection`]. The message itself is node 0.
pub type Node = usize;

/// The node of the message itself.
pub(super) const ROOT: Node = 0;

/// The deepest level at which a wanted field may lie. Each level costs a node, and a value that is written there may be nested
/// too.
pub(super) const MAX_LEVELS: usize = 16;

/// The place of a field in the tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Branch {
    pub(super) name: String,
    /// The field's name as it is written into a message: `"name":`, escaped.
    pub(super) label: Vec<u8>,
    /// The name as an array index, if it is one.
    index: Option<usize>,
    pub(super) parent: Node,
    pub(super) children: Vec<Node>,
    /// The lengths of the children's names. Bit n is set if some child's name has n bytes (bit 63: 63 or more). This alone is
    /// enough to skip most fields.
    lengths: u64,
}

/// The fields to take out of messages.
#[derive(Clone, Debug)]
pub struct Projection {
    pub(super) branches: Vec<Branch>,
}

impl Default for Projection {
    fn default() -> Projection {
        Projection { branches: vec![Branch::default()] }
    }
}

/// Returns the bit for names of `len` bytes.
fn length_bit(len: usize) -> u64 {
    1 << len.min(63)
}

impl Projection {
    /// Adds the field `name` to the wanted ones, and returns its node. `name` is the name of a top-level field, or a JSON Pointer
    /// (RFC 6901). A field has one node, however it is named.
    ///
    /// # Errors
    /// If a pointer is malformed, or goes too deep.
    pub fn want(&mut self, name: &str) -> Result<Node, String> {
        let Some(pointer) = name.strip_prefix('/') else { return Ok(self.child_or_new(ROOT, name)) };
        if pointer.split('/').count() > MAX_LEVELS {
            return Err(format!("`{name}` lies deeper than {MAX_LEVELS} levels"));
        }
        pointer.split('/').try_fold(ROOT, |node, token| Ok(self.child_or_new(node, &unescape_token(name, token)?)))
    }

    fn child_or_new(&mut self, parent: Node, name: &str) -> Node {
        self.child(parent, name.as_bytes()).unwrap_or_else(|| {
            let node = self.branches.len();
            let mut label = Vec::new();
            text::write_string(name.as_bytes(), &mut label);
            label.push(b':');
            let index = name.parse().ok().filter(|index: &usize| index.to_string() == name);
            self.branches.push(Branch { name: name.into(), label, index, parent, ..Branch::default() });
            self.branches[parent].children.push(node);
            self.branches[parent].lengths |= length_bit(name.len());
            node
        })
    }

    /// Returns the number of nodes: the number of entries that a layout needs.
    pub fn nodes(&self) -> usize {
        self.branches.len()
    }

    /// Returns whether `outer` is `inner` or an object around it.
    pub fn contains(&self, outer: Node, inner: Node) -> bool {
        outer == inner || (inner != ROOT && self.contains(outer, self.branches[inner].parent))
    }

    /// Returns the name of `node`: a plain name at the top level, otherwise a JSON Pointer.
    pub fn name(&self, node: Node) -> String {
        let branch = &self.branches[node];
        match branch.parent {
            ROOT => branch.name.clone(),
            parent => format!("/{}/{}", self.name(parent).trim_start_matches('/'), branch.name),
        }
    }

    /// Returns the node of the field `name` of the object at `node`, if the field is wanted.
    #[inline]
    pub(super) fn child(&self, node: Node, name: &[u8]) -> Option<Node> {
        let branch = &self.branches[node];
        if branch.lengths & length_bit(name.len()) == 0 {
            return None;
        }
        self.child_of_length(branch, name)
    }

    fn child_of_length(&self, branch: &Branch, name: &[u8]) -> Option<Node> {
        branch.children.iter().copied().find(|child| self.branches[*child].name.as_bytes() == name)
    }

    /// Returns the node of the element `index` of the array at `node`, if the element is wanted.
    pub(super) fn element(&self, node: Node, index: usize) -> Option<Node> {
        self.branches[node].children.iter().copied().find(|child| self.branches[*child].index == Some(index))
    }
}

/// Returns a reference token of the JSON Pointer `pointer`, with `~1` and `~0` unescaped.
fn unescape_token(pointer: &str, token: &str) -> Result<String, String> {
    let sound = token.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if !sound {
        return Err(format!("`{pointer}` is no JSON Pointer: `~` must be followed by 0 or 1"));
    }
    Ok(token.replace("~1", "/").replace("~0", "~"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_one_node_however_it_is_named() {
        let mut projection = Projection::default();
        let device = projection.want("device").unwrap();
        assert_eq!(projection.want("/device"), Ok(device));
        let os = projection.want("/device/os").unwrap();
        assert_eq!(projection.want("/device/os"), Ok(os));
        assert!(projection.contains(device, os) && !projection.contains(os, device));
        assert_eq!((projection.name(device).as_str(), projection.name(os).as_str()), ("device", "/device/os"));
    }

    #[test]
    fn levels_of_a_pointer_obeyed_and_violated() {
        let mut projection = Projection::default();
        assert!(projection.want(&"/a".repeat(MAX_LEVELS)).is_ok());
        assert_eq!(projection.nodes(), MAX_LEVELS + 1);
        assert!(projection.want(&"/b".repeat(MAX_LEVELS + 1)).unwrap_err().contains("deeper than 16 levels"));
        assert_eq!(projection.nodes(), MAX_LEVELS + 1, "a pointer that is refused costs nothing");
    }

    #[test]
    fn pointers_are_unescaped_and_checked() {
        let mut projection = Projection::default();
        let node = projection.want("/a~1b~0c").unwrap();
        assert_eq!(projection.branches[node].name, "a/b~c");
        assert!(projection.want("/a~2").is_err());
    }
}
