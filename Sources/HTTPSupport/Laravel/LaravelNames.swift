/// Laravel's conversions of texts into names.
extension String {
    /// `Str::slug`: ASCII words in lower case with `separator`, `-` or `_`, between them. `@` becomes `at`; other signs
    /// are dropped.
    package func slug(_ separator: Unicode.Scalar) -> String {
        let flipped: Unicode.Scalar = separator == "-" ? "_" : "-"
        var words = ""
        for scalar in unicodeScalars {
            switch scalar {
            case flipped: words.unicodeScalars.append(separator)
            case "@": words += "\(separator)at\(separator)"
            case "\t", "\n", "\r", " ": words += " "
            case separator: words.unicodeScalars.append(scalar)
            case "a"..."z", "A"..."Z", "0"..."9": words.unicodeScalars.append(scalar)
            default:
                let replacement = scalar.isASCII ? nil : ASCIILetters.replacement(of: scalar)
                words += (replacement ?? "").replacing(String(flipped), with: String(separator))
            }
        }
        return words.lowercased().split { $0 == " " || $0 == Character(separator) }.joined(separator: String(separator))
    }

    /// `Str::snake`: in lower case, with `_` before each capital of ASCII and without white space. Signs and letters of
    /// other alphabets stay.
    package var snake: String {
        let isLower = !isEmpty && unicodeScalars.allSatisfy { ("a"..."z").contains($0) }
        if isLower { return self }
        var (words, isAtStart) = (String.UnicodeScalarView(), true)
        for scalar in unicodeScalars {
            // PHP's `ucwords` knows six white spaces and 26 letters.
            let isLetter = ("a"..."z").contains(scalar)
            let capital = isAtStart && isLetter ? Unicode.Scalar(scalar.value - 32) ?? scalar : scalar
            isAtStart = [" ", "\t", "\r", "\n", "\u{C}", "\u{B}"].contains(scalar)
            if capital.properties.isWhitespace { continue }
            if ("A"..."Z").contains(capital), !words.isEmpty { words.append("_") }
            words.append(capital)
        }
        return String(words).lowercased()
    }
}

/// What Laravel's `Str::ascii` makes of a letter (voku/portable-ascii, language `en`), as far as `Str::slug` keeps it:
/// in lower case, without punctuation. Recorded from PHP; a letter that is not here is dropped, as there.
enum ASCIILetters {
    /// The replacement of `scalar`; `nil` where there is none.
    static func replacement(of scalar: Unicode.Scalar) -> Substring? {
        if let found = table[scalar] { return found }
        let lower = scalar.properties.lowercaseMapping.unicodeScalars
        guard lower.count == 1, let other = lower.first, other != scalar, !isStray(scalar) else { return nil }
        return table[other]
    }

    /// Letters without a replacement whose lower case has one: F with hook, capital theta symbol, the signs for ohm and
    /// angstrom, Georgian capitals.
    private static func isStray(_ scalar: Unicode.Scalar) -> Bool {
        [0x191, 0x3F4, 0x2126, 0x212B].contains(scalar.value) || (0x1C90...0x1CBF).contains(scalar.value)
    }

    private static let table: [Unicode.Scalar: Substring] = rows.split(separator: "\n").reduce(into: [:]) {
        table, row in
        let scalars = row.unicodeScalars
        guard let bar = scalars.firstIndex(of: "|") else { return }
        for scalar in scalars[scalars.index(after: bar)...] { table[scalar] = Substring(scalars[..<bar]) }
    }

    /// A replacement and the letters that have it.
    private static let rows = """
         |\u{A0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200A}
         |\u{200B}\u{2028}\u{2029}\u{202F}\u{205F}\u{3000}\u{FFA0}
        -|–—
        -e|၏
        -i|ဤ
        -u|ဦ
        0|˚\u{660}০௦၀₀
        1|¹\u{661}১௧၁₁
        10|௰
        100|௱
        1000|௲
        2|²\u{662}২௨၂₂
        3|³\u{663}৩௩၃₃
        4|\u{664}৪௪၄⁴₄
        5|\u{665}৫௫၅⁵₅
        6|\u{666}৬௬၆⁶₆
        7|\u{667}৭௭၇⁷₇
        8|\u{668}৮௮၈⁸₈
        9|\u{669}৯௯၉⁹₉
        a|ªàáâãäåāăąǎǻȧάαаәա\u{622}\u{623}\u{625}\u{627}अআ\u{9BE}အ\u{102B}\u{102C}ა
        a|ạảấầẩẫậắằẳẵặἀἁἂἃἄἅἆἇᾰᾱᾲᾳᾴᾶᾷᾺΆⱥ
        aa|\u{621}\u{639}आꜳ
        ae|æǽऎ
        afn|\u{60B}
        ai|ऐ
        amd|֏
        an|\u{1036}
        ao|ꜵ
        ara|₳
        at|\u{103A}
        au|ꜷ
        av|ꜹꜻ
        aw|ဩဪ
        ay|ꜽ
        azn|₼
        b|ƁΒбբ\u{628}बবဗბ
        ba|ဘ
        bdt|৳
        bha|भ
        c|¢çćĉċčȼцчћցচ
        ca|च
        ch|չ\u{686}ছჩჭ
        chha|छ
        cl|₡
        cny|\u{5143}
        cr|₢
        d|ðďđδдդ\u{62F}\u{636}ডদဍဒდ₫
        da|डဎဓ
        db|ȸ
        dezh|ʤ
        dh|ঢধ
        dha|ढ
        dj|ђ
        dr|₯
        dz|ǳʣʥѕџձძ
        e|èéêëēĕėęěȩɇəέεеэёѣեէएএ\u{9C7}ဧ\u{1031}\u{1032}ეẹẻẽếềểễệ
        ecu|₠
        ee|ঈ\u{9C0}
        ei|ऍ
        et|🙰
        eur|€
        ev|և
        f|ƒφфѳֆ\u{641}ফფ
        fa|फ
        feng|ʩ
        ff|ﬀ
        ffi|ﬃ
        ffl|ﬄ
        fi|ﬁ
        fl|ﬂ
        fr|₣
        g|ĝğġģΓгґғգ\u{62C}\u{6AF}গဂგ
        ga|गဃ
        gel|₾
        gh|γղ\u{63A}ঘღ
        gha|घ
        ghs|₵
        gj|ѓ
        h|ĥħΗһհ\u{62D}\u{647}হဟ\u{103E}ჰ
        ha|ह
        hnaik|၌
        i|ìíîïĩīĭįİıǐɨΐήίηιυϊийіѵիइই\u{9BF}ဣ\u{102D}\u{102E}იỉị
        ia|я
        ie|ъ
        ii|ई
        ij|ĳ
        iu|ю
        j|ĵǰɉјջজჯ
        ja|ѧѩजꙗ
        je|єѥ
        jh|ঝ
        jha|झ
        jpy|\u{5186}
        ju|ѭ
        k|ķĸκкկ\u{642}\u{643}\u{6A9}কကკ₭
        ka|क
        kh|χխ\u{62E}খခხ
        kha|ख
        kj|ќ
        kr|៛
        ks|ξѯ
        kzt|₸
        l|ĺļľŀłƚλлլ\u{644}लলလლḷ₤
        la|ဠ
        lezh|ɮ
        li|ऌळ
        lii|ऴॡ
        lj|ǉљ
        ls|ʪ
        lz|ʫ
        m|μмմ\u{645}মမმℳ
        ma|म
        mil|₥
        n|ñńņňŉŋǹνнңն\u{646}ণনနნṅṇ₦ꞥ
        na|ङनဏ
        nae|ण
        ng|\u{982}ঙঞင
        ni|ऩ
        nia|ञ
        nj|ǌњ
        nn|\u{981}
        ns|₪
        ny|ည
        o|ºòóôõöøōŏőơǒǫǿȯɵοωόоѡөօ\u{624}\u{648}ओঅ\u{9CB}ოọỏốồổỗộớờởỡợ
        oe|œ
        oi|ऑঐ\u{9C8}
        oii|ऒ
        oms|ॐ
        oo|ওꝏ
        ot|ѿ
        ou|औঔ\u{9CC}
        p|πпպ\u{67E}পပპ
        pa|पဖ
        ph|փ
        ps|£ψѱ
        pts|₧
        pyg|₲
        q|қքქ
        qp|ȹ
        r|ŕŗřρрռր\u{631}রড়რ
        ra|र
        rh|ঢ়
        ri|ऋऱॠ
        rri|ঋ\u{9C3}
        rs|૱௹₨₹
        rub|₽
        s|śŝşšſșςσсшս\u{633}\u{635}শসစსṡṣꞩ
        sa|सဆ
        sar|\u{FDFC}
        sh|շ\u{634}ষშ
        sha|श
        shh|щ
        shha|ष
        ss|ß
        st|ﬅﬆ
        t|ţťŧțτтտ\u{62A}\u{637}টতဋတთტṫṭẗ₮ⱦ
        ta|टतဌထ
        tc|ʨ
        tch|ճ
        tesh|ʧ
        th|þθϑթ\u{62B}\u{630}\u{638}ঠথသ
        tha|ठथद
        thb|฿
        thha|ध
        tl|₺
        ts|ʦծცწ
        tt|ৎ
        tz|ꜩ
        u|ùúûüũūŭůűųưǔǖǘǚǜʉʊуѫүұւउউ\u{9C1}ဉ\u{102F}\u{1030}უụủứừửữựꙋ
        uah|₴
        ue|ᵫ
        uu|ऊঊ\u{9C2}
        v|βϐвվভვ
        va|व
        vo|ո
        w|ŵώဝ\u{103D}ẁẃẅ₩
        x|Χх
        y|ýÿŷȳɏΥΰϋύϒыըյ\u{626}\u{64A}\u{6CC}য়ယ\u{103C}ყẏỳỵỷỹ
        ya|यရ\u{103B}
        yen|¥
        yi|ї
        ywae|၍
        z|źżžƶζжзզ\u{632}যဇზẑẓ
        zh|ժ\u{698}ჟ
        """
}
