//! Connection strings: parsing never panics, an error contains no secret, and the printed text
//! parses to the same.

use iothub_protocol::connection_string::ConnectionString;

use crate::secret::assert_hidden;
use crate::{Seeds, texts};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match text.parse::<ConnectionString>() {
        Ok(string) => {
            assert_hidden(text, &[';'], &format!("{string:?}"));
            let written = match &string {
                ConnectionString::Service(service) => service.expose_secret(),
                ConnectionString::Device(device) => device.expose_secret(),
            };
            assert_eq!(written.parse().as_ref(), Ok(&string), "{written:?}");
        }
        Err(error) => assert_hidden(text, &[';', '&', ','], &format!("{error} {error:?}")),
    }
}

pub(crate) fn seeds() -> Seeds {
    texts([
        "HostName=hub.example.net;SharedAccessKeyName=iothubowner;\
         SharedAccessKey=c2VjcmV0IG9mIHRoZSBvd25lcg==",
        "HostName=hub.example.net:8443;DeviceId=lobby-east;\
         SharedAccessKey=c2VjcmV0IG9mIGEgZG9vcg==;\
         GatewayHostName=[::1]:8883",
        "HostName=hub.example.net;DeviceId=lobby-east;SharedAccessSignature=SharedAccessSignature \
         sr=hub.example.net%2Fdevices%2Flobby-east\
         &sig=U4OqD8rtgEnYzdLFQH1OQFM1sZ0Vy/1D9yW5KQ4h9zM%3D\
         &se=1700000000",
        "hostname=hub.example.net;deviceid=lobby-east;X509=True;",
    ])
}
