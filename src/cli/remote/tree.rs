//! Draws the snapshots of machines as trees.

use crate::client::{Associators, Client, Object};

use super::super::failure::Failure;
use super::super::output::say;
use super::names::{path, snapshots};
use super::snapshot::{guid, when};

/// A snapshot in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    id: String,
    parent: Option<String>,
    label: String,
}

/// Prints a tree for each machine; `*` marks the snapshot that the machine goes on from.
pub(in super::super) async fn print_trees(client: &Client, machines: &[Object]) -> Result<(), Failure> {
    for machine in machines {
        let current = current(client, machine).await?;
        let nodes: Vec<Node> = snapshots(client, machine)
            .await?
            .iter()
            .map(|snapshot| {
                let id = snapshot.text("InstanceID").unwrap_or_default().to_uppercase();
                let mark = if current.as_ref() == Some(&id) { " *" } else { "" };
                let name = snapshot.text("ElementName").unwrap_or_default();
                let parent = snapshot.reference("Parent").and_then(|parent| {
                    parent.keys().iter().find_map(|(_, value)| value.as_text().map(str::to_uppercase))
                });
                Node { id, parent, label: format!("{name}{mark}  ({}, {})", when(snapshot), guid(snapshot)) }
            })
            .collect();
        say(machine.text("ElementName").unwrap_or_default());
        for line in draw(&nodes) {
            say(line);
        }
    }
    Ok(())
}

/// The `InstanceID` of the snapshot that a machine goes on from.
async fn current(client: &Client, machine: &Object) -> Result<Option<String>, Failure> {
    let wanted = Associators {
        association: Some("Msvm_MostCurrentSnapshotInBranch"),
        result_class: Some("Msvm_VirtualSystemSettingData"),
        ..Associators::default()
    };
    let current = client.associators(&path(machine)?, wanted).await?;
    Ok(current.first().and_then(|snapshot| snapshot.text("InstanceID")).map(str::to_uppercase))
}

/// The lines of a tree. A node whose parent is not among them is a root.
fn draw(nodes: &[Node]) -> Vec<String> {
    let is_root = |node: &&Node| {
        node.parent.as_ref().is_none_or(|parent| *parent == node.id || !nodes.iter().any(|other| other.id == *parent))
    };
    let roots: Vec<&Node> = nodes.iter().filter(is_root).collect();
    // Each entry is a node with the text in front of its children and whether it is the last of its row.
    let mut stack: Vec<(&Node, String, bool)> = row(&roots, "");
    let mut lines = Vec::new();
    // Wrong data could make a circle; every node is drawn once.
    while let Some((node, indent, last)) = stack.pop().filter(|_| lines.len() < nodes.len()) {
        lines.push(format!("{indent}{}{}", if last { "└── " } else { "├── " }, node.label));
        let children: Vec<&Node> = nodes
            .iter()
            .filter(|other| other.parent.as_deref() == Some(node.id.as_str()) && other.id != node.id)
            .collect();
        stack.extend(row(&children, &format!("{indent}{}", if last { "    " } else { "│   " })));
    }
    lines
}

/// The nodes of a row, last first, as the stack wants them.
fn row<'n>(nodes: &[&'n Node], indent: &str) -> Vec<(&'n Node, String, bool)> {
    nodes.iter().rev().enumerate().map(|(index, node)| (*node, indent.to_owned(), index == 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, parent: Option<&str>) -> Node {
        Node { id: id.to_owned(), parent: parent.map(str::to_owned), label: id.to_lowercase() }
    }

    #[test]
    fn branches_are_drawn_in_order() {
        let nodes = [
            node("A", Some("GONE")),
            node("B", Some("A")),
            node("C", Some("B")),
            node("D", Some("A")),
            node("E", None),
        ];
        let expected = ["├── a", "│   ├── b", "│   │   └── c", "│   └── d", "└── e"];
        assert_eq!(draw(&nodes), expected);
    }

    #[test]
    fn a_circle_ends() {
        assert!(draw(&[node("A", Some("B")), node("B", Some("A"))]).is_empty());
        assert_eq!(draw(&[node("A", Some("A"))]), ["└── a"]);
        assert!(draw(&[]).is_empty());
    }
}
