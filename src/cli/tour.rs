//! What `wsnapd demo` shows: the four classes over HTTPS, and lines to go on with.

use crate::app::Demo;
use crate::cim::ObjectPath;
use crate::client::{Argument, Client};
use crate::config::Protocol;

use super::failure::Failure;
use super::output::say;
use super::remote::{
    STORAGE, VIRTUALIZATION, client, create_arguments, find_collection, find_machine, find_volume, finish, print_trees,
    service,
};

/// Calls the four classes and prints what can be done next.
pub(super) async fn guide(demo: &Demo) -> Result<(), Failure> {
    let ca = demo.running.certificate().to_owned();
    let client = client(&demo.url(Protocol::Https), &demo.user, &demo.password, Some(ca))?;
    let identity = client.identify(false).await?;
    say(format_args!("\n{} answers: {}", identity.product_vendor, identity.product_version));
    machines(&client).await?;
    collection(&client).await?;
    volume(&client).await?;
    say("\nThe snapshots; * is the one that the machine goes on from:");
    print_trees(&client, &[find_machine(&client, "db01").await?, find_machine(&client, "web01").await?]).await?;
    lines(demo);
    Ok(())
}

/// The service of one machine, by its own class and by the DMTF class it derives from.
async fn machines(client: &Client) -> Result<(), Failure> {
    let own = service(client, "Msvm_VirtualSystemSnapshotService").await?;
    let mut dmtf = ObjectPath::new(VIRTUALIZATION, "CIM_VirtualSystemSnapshotService".into());
    for (name, value) in own.keys() {
        dmtf.push_key(name.clone(), value.clone());
    }
    for (number, service, machine) in [(1, &own, "web01"), (2, &dmtf, "db01")] {
        say(format_args!("\n{number}. {}.CreateSnapshot of {machine}", service.class_name()));
        let system = path_of(&find_machine(client, machine).await?)?;
        let arguments = create_arguments("AffectedSystem", &system, "", "2");
        let output = client.invoke(service, "CreateSnapshot", &arguments).await?;
        finish(client, &output, machine).await?;
    }
    Ok(())
}

async fn collection(client: &Client) -> Result<(), Failure> {
    say("\n3. Msvm_CollectionSnapshotService.CreateSnapshot of shop");
    let service = service(client, "Msvm_CollectionSnapshotService").await?;
    let shop = path_of(&find_collection(client, "shop").await?)?;
    let output = client.invoke(&service, "CreateSnapshot", &create_arguments("Collection", &shop, "", "1")).await?;
    finish(client, &output, "shop").await?;
    Ok(())
}

async fn volume(client: &Client) -> Result<(), Failure> {
    say(format_args!("\n4. MSFT_SMStorageVolume.CreateSnapshot of vol1 ({STORAGE})"));
    let volume = path_of(&find_volume(client, "vol1").await?)?;
    let no_arguments: [(&str, Argument<'_>); 0] = [];
    let output = client.invoke(&volume, "CreateSnapshot", &no_arguments).await?;
    finish(client, &output, "vol1").await?;
    Ok(())
}

fn path_of(object: &crate::client::Object) -> Result<ObjectPath, Failure> {
    object.path.clone().ok_or_else(|| Failure::failed("the server names no path for what it shows"))
}

/// Lines that can be pasted, for the tools people have.
fn lines(demo: &Demo) {
    let https = demo.url(Protocol::Https);
    let http = demo.url(Protocol::Http);
    let authority = https.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let port = authority.rsplit(':').next().unwrap_or_default();
    let (user, password) = (&demo.user, demo.password_file.display());
    let ca = demo.running.certificate().display();
    say(format_args!(
        r#"
Go on with wsnapd:
  wsnapd vm list --url {https} --user {user} --password-file {password} --ca {ca}
  wsnapd snapshot create web01 --name "before the update" --url {https} --user {user} --password-file {password} --ca {ca}
  wsnapd snapshot tree --url {https} --user {user} --password-file {password} --ca {ca}

with curl:
  curl --cacert {ca} -H 'WSMANIDENTIFY: unauthenticated' -H 'Content-Type: application/soap+xml;charset=UTF-8' --data '{IDENTIFY}' {https}

with openwsman's wsman (it asks for the password):
  wsman identify -h 127.0.0.1 -P {port} -c {ca} -u {user} -y basic
  wsman enumerate {CLASS} -h 127.0.0.1 -P {port} -c {ca} -u {user} -y basic

with PowerShell on Windows (after Import-Certificate of the file that `wsnapd cert export` writes):
  $o = New-CimSessionOption -UseSsl
  $s = New-CimSession -ComputerName 127.0.0.1 -Port {port} -Authentication Basic -Credential {user} -SessionOption $o
  $vm = Get-CimInstance -CimSession $s -Namespace root/virtualization/v2 -ClassName Msvm_ComputerSystem -Filter "ElementName='web01'"
  $service = Get-CimInstance -CimSession $s -Namespace root/virtualization/v2 -ClassName Msvm_VirtualSystemSnapshotService
  Invoke-CimMethod -CimSession $s -InputObject $service -MethodName CreateSnapshot -Arguments @{{ AffectedSystem = $vm; SnapshotSettings = ''; SnapshotType = [uint16]2 }}

In clear text: {http}
"#
    ));
}

const IDENTIFY: &str = r#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:i="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"><s:Body><i:Identify/></s:Body></s:Envelope>"#;
const CLASS: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_ComputerSystem";
