import Crypto
import Foundation
import HTTPSupport
import Testing

/// Names that Laravel makes of an application's name. What is expected here was recorded from PHP 8.2 and
/// voku/portable-ascii 2.0, which run `Str::slug` and `Str::snake`.
@Suite(.timeLimit(.minutes(30))) struct LaravelNameTests {
    private static let names: [(name: String, dashed: String, underscored: String, snake: String)] = [
        ("Laravel", "laravel", "laravel", "laravel"),
        ("laravel", "laravel", "laravel", "laravel"),
        ("CodexFlow", "codexflow", "codexflow", "codex_flow"),
        ("Codex Flow", "codex-flow", "codex_flow", "codex_flow"),
        ("codex flow", "codex-flow", "codex_flow", "codex_flow"),
        ("Laravel.com", "laravelcom", "laravelcom", "laravel.com"),
        ("my.app.io", "myappio", "myappio", "my.app.io"),
        ("Ada's Shop", "adas-shop", "adas_shop", "ada's_shop"),
        ("Tom & Jerry", "tom-jerry", "tom_jerry", "tom&_jerry"),
        ("R&D", "rd", "rd", "r&_d"),
        ("me@home", "me-at-home", "me_at_home", "me@home"),
        ("info@codexflow.com", "info-at-codexflowcom", "info_at_codexflowcom", "info@codexflow.com"),
        ("@", "at", "at", "@"),
        ("Fıstık Uygulaması", "fistik-uygulamasi", "fistik_uygulamasi", "fıstık_uygulaması"),
        ("FISTIK UYGULAMASI", "fistik-uygulamasi", "fistik_uygulamasi", "f_i_s_t_i_k_u_y_g_u_l_a_m_a_s_i"),
        (
            "İSTANBUL ŞEHİR HATLARI", "istanbul-sehir-hatlari", "istanbul_sehir_hatlari",
            "i\u{307}_s_t_a_n_b_u_lş_e_hi\u{307}_r_h_a_t_l_a_r_i"
        ),
        ("istanbul şehir hatları", "istanbul-sehir-hatlari", "istanbul_sehir_hatlari", "istanbulşehir_hatları"),
        ("Çağrı Merkezi A.Ş.", "cagri-merkezi-as", "cagri_merkezi_as", "çağrı_merkezi_a.ş."),
        ("Öğrenci Ürün Ğ", "ogrenci-urun-g", "ogrenci_urun_g", "öğrenciürünğ"),
        ("çğıöşü ÇĞIÖŞÜ İ", "cgiosu-cgiosu-i", "cgiosu_cgiosu_i", "çğıöşüçğ_iöşüi\u{307}"),
        ("ARGE", "arge", "arge", "a_r_g_e"),
        ("API v2", "api-v2", "api_v2", "a_p_i_v2"),
        ("My-App_Name", "my-app-name", "my_app_name", "my-_app__name"),
        ("__x--y__", "x-y", "x_y", "__x--y__"),
        ("  spaced   out  ", "spaced-out", "spaced_out", "spaced_out"),
        ("Tab\tName", "tab-name", "tab_name", "tab_name"),
        ("50% Off!", "50-off", "50_off", "50%_off!"),
        ("C++ / C#", "c-c", "c_c", "c++/_c#"),
        ("a_b-c", "a-b-c", "a_b_c", "a_b-c"),
        ("Größe Straße ẞ", "grosse-strasse-ss", "grosse_strasse_ss", "größe_straßeß"),
        ("Ærøskøbing", "aeroskobing", "aeroskobing", "ærøskøbing"),
        ("Łódź", "lodz", "lodz", "łódź"),
        ("Đà Nẵng", "da-nang", "da_nang", "đà_nẵng"),
        ("Nguyễn Văn", "nguyen-van", "nguyen_van", "nguyễn_văn"),
        ("Привет Мир", "privet-mir", "privet_mir", "приветмир"),
        ("Ελληνικά Ωμέγα", "ellinika-omegha", "ellinika_omegha", "ελληνικάωμέγα"),
        ("Ω Å", "o-a", "o_a", "ωå"),
        ("Ƒƒ", "f", "f", "ƒƒ"),
        ("日本語アプリ", "", "", "日本語アプリ"),
        ("한국어", "", "", "한국어"),
        ("\u{5E9}\u{5DC}\u{5D5}\u{5DD}", "", "", "\u{5E9}\u{5DC}\u{5D5}\u{5DD}"),
        ("\u{645}\u{631}\u{62D}\u{628}\u{627}", "mrhba", "mrhba", "\u{645}\u{631}\u{62D}\u{628}\u{627}"),
        (
            "\u{645}\u{631}\u{62D}\u{628}\u{627} \u{661}\u{662}\u{663}", "mrhba-123", "mrhba_123",
            "\u{645}\u{631}\u{62D}\u{628}\u{627}\u{661}\u{662}\u{663}"
        ),
        ("ქართული", "qartuli", "qartuli", "ქართული"),
        ("Ქართული", "artuli", "artuli", "ქართული"),
        ("Հայաստան", "hayastan", "hayastan", "հայաստան"),
        ("€ Shop", "eur-shop", "eur_shop", "€_shop"),
        ("₺10 TL", "tl10-tl", "tl10_tl", "₺10_t_l"),
        ("“Quoted” – App", "quoted-app", "quoted_app", "“_quoted”–_app"),
        ("Nø Break", "no-break", "no_break", "nø_break"),
        ("é e\u{301}", "e-e", "e_e", "é_e\u{301}"),
        ("😀 App 😀", "app", "app", "😀_app😀"),
        ("ABC", "abc", "abc", "a_b_c"),
        ("aBC", "abc", "abc", "a_b_c"),
        ("aB cD", "ab-cd", "ab_cd", "a_b_c_d"),
        ("A", "a", "a", "a"),
        ("Ünal", "unal", "unal", "ünal"),
        ("ünal app", "unal-app", "unal_app", "ünal_app"),
        ("CamelCaseName", "camelcasename", "camelcasename", "camel_case_name"),
        ("snake_case_name", "snake-case-name", "snake_case_name", "snake_case_name"),
        ("Foo-Bar", "foo-bar", "foo_bar", "foo-_bar"),
        ("[dev] App", "dev-app", "dev_app", "[dev]_app"),
        ("App (test)", "app-test", "app_test", "app(test)"),
        ("App=1;x,y", "app1xy", "app1xy", "app=1;x,y"),
        ("No.1", "no1", "no1", "no.1"),
        ("v1.2.3", "v123", "v123", "v1.2.3"),
        ("null-ish", "null-ish", "null_ish", "null-ish"),
        ("Ǆungla", "ungla", "ungla", "ǆungla"),
        ("ﬁn", "fin", "fin", "ﬁn"),
        ("½ Off", "off", "off", "½_off"),
        ("№ 5", "5", "5", "№5"),
        ("İ", "i", "i", "i\u{307}"),
        ("ı", "i", "i", "ı"),
        ("I", "i", "i", "i"),
        ("i", "i", "i", "i"),
        ("ÇOK GÜZEL", "cok-guzel", "cok_guzel", "ç_o_k_gü_z_e_l"),
        ("Zürich–Basel", "zurich-basel", "zurich_basel", "zürich–_basel"),
        ("ʼn\u{308}", "n", "n", "ʼn\u{308}"),
        ("naïve café", "naive-cafe", "naive_cafe", "naïve_café"),
        ("Ķekava", "kekava", "kekava", "ķekava"),
        ("Śląsk", "slask", "slask", "śląsk"),
        ("ạ Ả", "a-a", "a_a", "ạả"),
        ("ЩУКА ё й", "shhuka-e-i", "shhuka_e_i", "щукаёй"),
        ("αΒγ", "abgh", "abgh", "αβγ"),
        ("ह\u{93F}न\u{94D}द\u{940}", "hanatha", "hanatha", "ह\u{93F}न\u{94D}द\u{940}"),
        ("ব\u{9BE}\u{982}ল\u{9BE}", "bangla", "bangla", "ব\u{9BE}\u{982}ল\u{9BE}"),
    ]

    @Test(arguments: names.indices) func namesAreThoseOfLaravel(index: Int) {
        let expected = Self.names[index]
        let name = expected.name
        #expect(Array(name.slug("-").unicodeScalars) == Array(expected.dashed.unicodeScalars))
        #expect(Array(name.slug("_").unicodeScalars) == Array(expected.underscored.unicodeScalars))
        #expect(Array(name.snake.unicodeScalars) == Array(expected.snake.unicodeScalars))
        let cookies = LaravelSessions.cookieNames(appName: name)
        let all = ["\(expected.dashed)-session", "\(expected.underscored)_session", "\(expected.snake)_session"]
        #expect(Set(cookies) == Set(all) && cookies.count == Set(all).count)
    }

    /// The slug of each letter from U+0080 to U+2FFFF between two others, as one digest of what PHP answers.
    @Test func everyLetterIsTransliteratedAsInLaravel() {
        var digest = SHA256()
        for value in UInt32(0x80)..<0x30000 {
            guard let scalar = Unicode.Scalar(value) else { continue }
            digest.update(data: Data(("x\(scalar)x".slug("-") + "\n").utf8))
        }
        let hex = digest.finalize().map { String(format: "%02x", $0) }.joined()
        #expect(hex == "d699303a66f349b0d8d1279e790a408b6f5dfe121064f54d13599d2c47ae3d97")
    }

    @Test func withoutANameTheNameIsLaravelsOwn() {
        let names = LaravelSessions.cookieNames(appName: nil)
        #expect(names == ["laravel-session", "laravel_session", "-session", "_session"])
    }
}
