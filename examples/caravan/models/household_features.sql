-- One row a household. Many are alike in all 85 columns: `likeness` is one for those, so that they stay in one part.
with households as (
    select
        *,
        md5(concat_ws('|',
            mostype, maanthui, mgemomv, mgemleef, moshoofd, mgodrk, mgodpr, mgodov, mgodge, mrelge, mrelsa,
            mrelov, mfalleen, mfgekind, mfwekind, moplhoog, moplmidd, mopllaag, mberhoog, mberzelf, mberboer,
            mbermidd, mberarbg, mberarbo, mska, mskb1, mskb2, mskc, mskd, mhhuur, mhkoop, maut1, maut2, maut0,
            mzfonds, mzpart, minkm30, mink3045, mink4575, mink7512, mink123m, minkgem, mkoopkla, pwapart,
            pwabedr, pwaland, ppersaut, pbesaut, pmotsco, pvraaut, paanhang, ptractor, pwerkt, pbrom, pleven,
            ppersong, pgezong, pwaoreg, pbrand, pzeilpl, pplezier, pfiets, pinboed, pbystand, awapart, awabedr,
            awaland, apersaut, abesaut, amotsco, avraaut, aaanhang, atractor, awerkt, abrom, aleven, apersong,
            agezong, awaoreg, abrand, azeilpl, aplezier, afiets, ainboed, abystand
        )) as likeness
    from {{ source('insurer', 'households') }}
)

select
    likeness || '-' || row_number() over (partition by likeness order by purchase) as household_id,
    likeness,
    purchase = 'Yes' as bought,
    mostype, maanthui, mgemomv, mgemleef, moshoofd, mgodrk, mgodpr, mgodov, mgodge, mrelge, mrelsa, mrelov,
    mfalleen, mfgekind, mfwekind, moplhoog, moplmidd, mopllaag, mberhoog, mberzelf, mberboer, mbermidd,
    mberarbg, mberarbo, mska, mskb1, mskb2, mskc, mskd, mhhuur, mhkoop, maut1, maut2, maut0, mzfonds, mzpart,
    minkm30, mink3045, mink4575, mink7512, mink123m, minkgem, mkoopkla, pwapart, pwabedr, pwaland, ppersaut,
    pbesaut, pmotsco, pvraaut, paanhang, ptractor, pwerkt, pbrom, pleven, ppersong, pgezong, pwaoreg, pbrand,
    pzeilpl, pplezier, pfiets, pinboed, pbystand, awapart, awabedr, awaland, apersaut, abesaut, amotsco,
    avraaut, aaanhang, atractor, awerkt, abrom, aleven, apersong, agezong, awaoreg, abrand, azeilpl, aplezier,
    afiets, ainboed, abystand
from households
