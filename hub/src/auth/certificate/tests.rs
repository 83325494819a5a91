use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

use super::*;

/// Noon of 2026-07-01.
const NOW: u64 = 1_782_907_200;

/// The first second of 2027, when the certificates of these tests expire.
const END: u64 = 1_798_761_600;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn parameters(common_name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    parameters.not_before = date_time_ymd(2026, 1, 1);
    parameters.not_after = date_time_ymd(2027, 1, 1);
    parameters
}

fn authority_parameters(common_name: &str) -> CertificateParams {
    let mut parameters = parameters(common_name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
}

fn root(common_name: &str) -> Issuer {
    Issuer::self_signed(
        authority_parameters(common_name),
        KeyPair::generate().unwrap(),
    )
    .unwrap()
}

fn signed_by(parameters: &CertificateParams, issuer: &Issuer) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    parameters.signed_by(&key, issuer).unwrap().into()
}

fn self_signed() -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    parameters("lobby").self_signed(&key).unwrap().into()
}

fn trusting(issuer: &Issuer) -> DeviceAuthorities {
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let authorities = DeviceAuthorities::default();
    authorities.replace(roots);
    authorities
}

fn lobby() -> DeviceId {
    "lobby".parse().unwrap()
}

#[test]
fn accepts_both_thumbprints_of_either_kind_and_case() {
    let own = self_signed();
    let chain = [own.clone()];
    for algorithm in [&SHA256, &SHA1_FOR_LEGACY_USE_ONLY] {
        let upper = thumbprint(algorithm, &own);
        let lower = upper.to_lowercase();
        for registered in [
            [Some(upper.as_str()), None],
            [None, Some(lower.as_str())],
            [Some("00"), Some(upper.as_str())],
        ] {
            assert_eq!(check_thumbprint(&chain, registered, NOW), Ok(END));
        }
    }
}

#[test]
fn rejects_another_certificate_and_names_its_thumbprint() {
    let (own, other) = (self_signed(), self_signed());
    let registered = thumbprint(&SHA256, &own);
    let error =
        check_thumbprint(std::slice::from_ref(&other), [Some(&registered), None], NOW).unwrap_err();
    assert!(
        error.to_string().contains(&thumbprint(&SHA256, &other)),
        "{error}"
    );
    // Another certificate in the chain proves nothing: the handshake is not signed with its key.
    assert!(check_thumbprint(&[other, own], [Some(&registered), None], NOW).is_err());
    assert_eq!(
        check_thumbprint(&[], [Some(&registered), None], NOW),
        Err(CertificateError::Missing)
    );
}

#[test]
fn a_certificate_is_valid_only_within_its_dates() {
    let own = self_signed();
    let registered = thumbprint(&SHA256, &own);
    let judge = |now| check_thumbprint(std::slice::from_ref(&own), [Some(&registered), None], now);
    assert_eq!(judge(END), Ok(END));
    for outside in [END + 1, NOW - 365 * 24 * 3600] {
        assert!(matches!(judge(outside), Err(CertificateError::Time { .. })));
    }
}

#[test]
fn a_chain_is_valid_only_for_the_device_it_names() {
    let root = root("root");
    let between = Issuer::signed_by(
        authority_parameters("between"),
        KeyPair::generate().unwrap(),
        &root,
    )
    .unwrap();
    let authorities = trusting(&root);
    let judge = |chain: &Chain| check_chain(chain, &lobby(), &authorities, NOW);

    let direct = signed_by(&parameters("lobby"), &root);
    assert_eq!(judge(&[direct]), Ok(END));
    let indirect = signed_by(&parameters("lobby"), &between);
    assert_eq!(judge(&[indirect.clone(), between.der().clone()]), Ok(END));
    assert!(
        matches!(judge(&[indirect]), Err(CertificateError::Authority(_))),
        "the device must send the intermediate"
    );

    let other = signed_by(&parameters("Lobby"), &root);
    assert_eq!(judge(&[other]), Err(CertificateError::CommonName));
    let mut two = parameters("door");
    two.distinguished_name
        .push(DnType::CustomDnType(vec![2, 5, 4, 3]), "lobby");
    assert_eq!(
        judge(&[signed_by(&two, &root)]),
        Err(CertificateError::CommonName)
    );
}

#[test]
fn rejects_a_chain_to_an_untrusted_authority() {
    let (ours, theirs) = (root("root"), root("root"));
    let foreign = signed_by(&parameters("lobby"), &theirs);
    for authorities in [trusting(&ours), DeviceAuthorities::default()] {
        let judged = check_chain(std::slice::from_ref(&foreign), &lobby(), &authorities, NOW);
        assert!(
            matches!(judged, Err(CertificateError::Authority(_))),
            "{judged:?}"
        );
    }
    // An authority that is removed.
    let authorities = trusting(&theirs);
    assert!(check_chain(std::slice::from_ref(&foreign), &lobby(), &authorities, NOW).is_ok());
    authorities.replace(RootCertStore::empty());
    assert!(check_chain(&[foreign], &lobby(), &authorities, NOW).is_err());
}

#[test]
fn rejects_bytes_that_are_not_a_certificate() {
    let chain = [CertificateDer::from(vec![0x30, 3, 1, 2])];
    let registered = thumbprint(&SHA256, &chain[0]);
    assert_eq!(
        check_thumbprint(&chain, [Some(&registered), None], NOW),
        Err(CertificateError::Unreadable)
    );
    assert_eq!(
        check_chain(&chain, &lobby(), &DeviceAuthorities::default(), NOW),
        Err(CertificateError::Unreadable)
    );
}
