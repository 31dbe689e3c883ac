-- The schema at head, written by `headstart schema dump`. Not to be edited: write it anew.
-- format: 1
-- revision: 20250901_093347526
-- version table: alembic_version
-- history: 210fd40224eac5cd457e44be49fd26bb80c6dbb2e4a6c3fbf1b6f70e3509d762
-- meaning: 31b0fa8bf806dd129e88c5911fab7deeb25ecca5477bf0f781f524efcfb5ec94
-- body: 051b861e2893cc44dbf766f6d285ef123c233dfe44841fa4b39c6067c7415dd7

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_table_access_method = heap;


--
-- Name: kpi; Type: SCHEMA; Schema: -
--

CREATE SCHEMA IF NOT EXISTS kpi;


--
-- Name: SCHEMA kpi; Type: COMMENT; Schema: -
--

COMMENT ON SCHEMA kpi IS 'Figures that are computed ahead: kpi.refresh() brings them up to date';


--
-- Name: mart; Type: SCHEMA; Schema: -
--

CREATE SCHEMA IF NOT EXISTS mart;


--
-- Name: SCHEMA mart; Type: COMMENT; Schema: -
--

COMMENT ON SCHEMA mart IS 'Views for people and reports';


--
-- Name: raw; Type: SCHEMA; Schema: -
--

CREATE SCHEMA IF NOT EXISTS raw;


--
-- Name: SCHEMA raw; Type: COMMENT; Schema: -
--

COMMENT ON SCHEMA raw IS 'What arrived, as it arrived';


--
-- Name: ref; Type: SCHEMA; Schema: -
--

CREATE SCHEMA IF NOT EXISTS ref;


--
-- Name: SCHEMA ref; Type: COMMENT; Schema: -
--

COMMENT ON SCHEMA ref IS 'What everybody refers to: exchanges, holidays, listings, instruments';


--
-- Name: stg; Type: SCHEMA; Schema: -
--

CREATE SCHEMA IF NOT EXISTS stg;


--
-- Name: SCHEMA stg; Type: COMMENT; Schema: -
--

COMMENT ON SCHEMA stg IS 'What arrived, typed and without duplicates';


--
-- Name: listing_status; Type: TYPE; Schema: ref
--

CREATE TYPE ref.listing_status AS ENUM (
    'LISTED',
    'SUPERVISION',
    'SUSPENDED',
    'DELISTED'
);


--
-- Name: TYPE listing_status; Type: COMMENT; Schema: ref
--

COMMENT ON TYPE ref.listing_status IS 'How a listing stands with its exchange';


--
-- Name: refresh(); Type: FUNCTION; Schema: kpi
--

CREATE FUNCTION kpi.refresh() RETURNS void
    LANGUAGE plpgsql
    AS $$
        DECLARE
            found record;
        BEGIN
            FOR found IN
                SELECT matviewname AS name, ispopulated AS populated
                  FROM pg_catalog.pg_matviews
                 WHERE schemaname = 'kpi'
                 ORDER BY matviewname
            LOOP
                EXECUTE format(
                    'REFRESH MATERIALIZED VIEW %s kpi.%I',
                    CASE WHEN found.populated THEN 'CONCURRENTLY' ELSE '' END,
                    found.name
                );
            END LOOP;
        END
        $$;


--
-- Name: FUNCTION refresh(); Type: COMMENT; Schema: kpi
--

COMMENT ON FUNCTION kpi.refresh() IS 'Brings every materialised view of kpi up to date while it is read';


--
-- Name: log_order_event(); Type: FUNCTION; Schema: public
--

CREATE FUNCTION public.log_order_event() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO public.order_events (order_id, status_after) VALUES (NEW.id, NEW.status);
            ELSIF OLD.status IS DISTINCT FROM NEW.status THEN
                INSERT INTO public.order_events (order_id, status_before, status_after)
                VALUES (NEW.id, OLD.status, NEW.status);
            END IF;
            RETURN NULL;
        END
        $$;


--
-- Name: FUNCTION log_order_event(); Type: COMMENT; Schema: public
--

COMMENT ON FUNCTION public.log_order_event() IS 'Keeps order_events; attach AFTER INSERT OR UPDATE OF status';


--
-- Name: set_signal_instrument(); Type: FUNCTION; Schema: public
--

CREATE FUNCTION public.set_signal_instrument() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
        BEGIN
            LOOP
                SELECT instrument.id INTO NEW.instrument_id
                  FROM ref.instruments AS instrument
                 WHERE instrument.exchange = NEW.exchange AND instrument.symbol = NEW.symbol;
                EXIT WHEN FOUND;
                INSERT INTO ref.instruments (exchange, symbol) VALUES (NEW.exchange, NEW.symbol)
                ON CONFLICT ON CONSTRAINT uq_instruments_exchange_symbol DO NOTHING;
            END LOOP;
            RETURN NEW;
        END
        $$;


--
-- Name: FUNCTION set_signal_instrument(); Type: COMMENT; Schema: public
--

COMMENT ON FUNCTION public.set_signal_instrument() IS 'Looks the instrument of a signal up, or makes it';


--
-- Name: set_updated_at(); Type: FUNCTION; Schema: public
--

CREATE FUNCTION public.set_updated_at() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            -- The transaction's own time, as the default of the column has it; so rows changed together agree.
            NEW.updated_at := now();
            RETURN NEW;
        END;
        $$;


--
-- Name: FUNCTION set_updated_at(); Type: COMMENT; Schema: public
--

COMMENT ON FUNCTION public.set_updated_at() IS 'Keeps updated_at; attach BEFORE UPDATE, FOR EACH ROW';


--
-- Name: add_month(date); Type: FUNCTION; Schema: raw
--

CREATE FUNCTION raw.add_month(month date) RETURNS text
    LANGUAGE plpgsql
    AS $$
        DECLARE
            first CONSTANT timestamp with time zone := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
            past CONSTANT timestamp with time zone :=
                (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
            name CONSTANT text := 'landings_' || to_char(month, 'YYYYMM');
        BEGIN
            IF to_regclass('raw.' || name) IS NULL THEN
                EXECUTE format(
                    'CREATE TABLE raw.%I PARTITION OF raw.landings FOR VALUES FROM (%L) TO (%L)', name, first, past
                );
            END IF;
            RETURN 'raw.' || name;
        END
        $$;


--
-- Name: FUNCTION add_month(month date); Type: COMMENT; Schema: raw
--

COMMENT ON FUNCTION raw.add_month(month date) IS 'Makes the partition of a month (UTC), unless it is there';


--
-- Name: is_trading_day(character varying, date); Type: FUNCTION; Schema: ref
--

CREATE FUNCTION ref.is_trading_day(exchange character varying, day date) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
            SELECT extract(isodow FROM is_trading_day.day) < 6
               AND NOT EXISTS (
                   SELECT FROM ref.holidays AS holiday
                    WHERE holiday.exchange_code = is_trading_day.exchange
                      AND holiday.day = is_trading_day.day
               )
        $$;


--
-- Name: FUNCTION is_trading_day(exchange character varying, day date); Type: COMMENT; Schema: ref
--

COMMENT ON FUNCTION ref.is_trading_day(exchange character varying, day date) IS 'Neither a weekend nor one of ref.holidays';


--
-- Name: load_daily_quotes(); Type: FUNCTION; Schema: stg
--

CREATE FUNCTION stg.load_daily_quotes() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
        DECLARE
            written bigint;
        BEGIN
            INSERT INTO stg.daily_quotes AS quote
                   (code, trade_date, open, high, low, close, volume, turnover, adjustment_factor)
            SELECT DISTINCT ON (landed.code, landed.trade_date)
                   landed.code, landed.trade_date, landed.open, landed.high, landed.low, landed.close,
                   landed.volume, landed.turnover, landed.adjustment_factor
              FROM stg.landed_daily_quotes AS landed
             ORDER BY landed.code, landed.trade_date, landed.fetched_at DESC
            ON CONFLICT (code, trade_date) DO UPDATE
               SET (open, high, low, close, volume, turnover, adjustment_factor, loaded_at) =
                   (excluded.open, excluded.high, excluded.low, excluded.close,
                    excluded.volume, excluded.turnover, excluded.adjustment_factor, now())
             WHERE (quote.open, quote.high, quote.low, quote.close,
                    quote.volume, quote.turnover, quote.adjustment_factor)
                   IS DISTINCT FROM
                   (excluded.open, excluded.high, excluded.low, excluded.close,
                    excluded.volume, excluded.turnover, excluded.adjustment_factor);
            GET DIAGNOSTICS written = ROW_COUNT;
            RETURN written;
        END
        $$;


--
-- Name: FUNCTION load_daily_quotes(); Type: COMMENT; Schema: stg
--

COMMENT ON FUNCTION stg.load_daily_quotes() IS 'Writes what has landed and is new or different, and counts it';


--
-- Name: companies; Type: TABLE; Schema: public
--

CREATE TABLE public.companies (
    id bigint NOT NULL,
    ticker_symbol character varying(10) NOT NULL,
    edinet_code character varying(6),
    name character varying(255) NOT NULL,
    market character varying(50) NOT NULL,
    industry character varying(100),
    currency character varying(3) DEFAULT 'JPY'::character varying NOT NULL,
    listed_on date,
    is_active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    listing_code character varying(5),
    CONSTRAINT ck_companies_currency_form CHECK (((currency)::text ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT ck_companies_edinet_code_form CHECK (((edinet_code)::text ~ '^E[0-9]{5}$'::text))
);


--
-- Name: TABLE companies; Type: COMMENT; Schema: public
--

COMMENT ON TABLE public.companies IS 'Listed companies, one row each';


--
-- Name: COLUMN companies.ticker_symbol; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.companies.ticker_symbol IS 'As the exchange lists it, such as 7203';


--
-- Name: COLUMN companies.edinet_code; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.companies.edinet_code IS 'Filing code of EDINET, such as E02144; foreign companies have none';


--
-- Name: COLUMN companies.currency; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.companies.currency IS 'ISO 4217, of the listing';


--
-- Name: COLUMN companies.listing_code; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.companies.listing_code IS 'Such as 72030; foreign companies have none';


--
-- Name: stock_prices; Type: TABLE; Schema: public
--

CREATE TABLE public.stock_prices (
    id bigint NOT NULL,
    company_id bigint NOT NULL,
    trade_date date NOT NULL,
    open numeric(20,8) NOT NULL,
    high numeric(20,8) NOT NULL,
    low numeric(20,8) NOT NULL,
    close numeric(20,8) NOT NULL,
    adjusted_close numeric(20,8),
    volume bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    currency character varying(3) DEFAULT 'JPY'::character varying NOT NULL,
    CONSTRAINT ck_stock_prices_price_range CHECK (((low <= LEAST(open, close)) AND (high >= GREATEST(open, close)))),
    CONSTRAINT ck_stock_prices_volume_not_negative CHECK ((volume >= 0))
);


--
-- Name: TABLE stock_prices; Type: COMMENT; Schema: public
--

COMMENT ON TABLE public.stock_prices IS 'Daily prices, one row per company and trading day';


--
-- Name: COLUMN stock_prices.adjusted_close; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.stock_prices.adjusted_close IS 'Close after splits and dividends';


--
-- Name: COLUMN stock_prices.volume; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.stock_prices.volume IS 'Shares traded';


--
-- Name: COLUMN stock_prices.currency; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.stock_prices.currency IS 'ISO 4217, of this price';


--
-- Name: daily_prices; Type: VIEW; Schema: mart
--

CREATE VIEW mart.daily_prices AS
 SELECT price.company_id,
    company.ticker_symbol,
    price.trade_date,
    price.close,
    COALESCE(price.adjusted_close, price.close) AS adjusted_close,
    lag(COALESCE(price.adjusted_close, price.close)) OVER (PARTITION BY price.company_id ORDER BY price.trade_date) AS previous_adjusted_close,
    price.volume,
    price.currency,
    (price.close * (price.volume)::numeric) AS turnover
   FROM (public.stock_prices price
     JOIN public.companies company ON ((company.id = price.company_id)));


--
-- Name: VIEW daily_prices; Type: COMMENT; Schema: mart
--

COMMENT ON VIEW mart.daily_prices IS 'Each closing price, with ticker, turnover and the close before it';


--
-- Name: market_daily; Type: MATERIALIZED VIEW; Schema: kpi
--

CREATE MATERIALIZED VIEW kpi.market_daily AS
 SELECT trade_date,
    currency,
    count(*) AS companies,
    count(*) FILTER (WHERE (adjusted_close > previous_adjusted_close)) AS advancers,
    count(*) FILTER (WHERE (adjusted_close < previous_adjusted_close)) AS decliners,
    sum(turnover) AS turnover
   FROM mart.daily_prices price
  GROUP BY trade_date, currency
  WITH NO DATA;


--
-- Name: MATERIALIZED VIEW market_daily; Type: COMMENT; Schema: kpi
--

COMMENT ON MATERIALIZED VIEW kpi.market_daily IS 'Breadth and turnover of each day and currency';


--
-- Name: signal_outcomes; Type: VIEW; Schema: mart
--

CREATE VIEW mart.signal_outcomes AS
SELECT
    NULL::bigint AS signal_id,
    NULL::character varying(100) AS strategy,
    NULL::character varying(50) AS exchange,
    NULL::character varying(50) AS symbol,
    NULL::timestamp with time zone AS "timestamp",
    NULL::character varying(10) AS action,
    NULL::numeric(5,2) AS confidence,
    NULL::bigint AS orders,
    NULL::numeric AS filled_quantity,
    NULL::numeric AS average_price;


--
-- Name: VIEW signal_outcomes; Type: COMMENT; Schema: mart
--

COMMENT ON VIEW mart.signal_outcomes IS 'Each signal with what was done about it';


--
-- Name: strategy_daily; Type: MATERIALIZED VIEW; Schema: kpi
--

CREATE MATERIALIZED VIEW kpi.strategy_daily AS
 SELECT strategy,
    (("timestamp" AT TIME ZONE 'UTC'::text))::date AS day,
    count(*) AS signals,
    count(*) FILTER (WHERE (orders > 0)) AS acted_upon,
    count(*) FILTER (WHERE (filled_quantity > (0)::numeric)) AS filled,
    avg(confidence) AS average_confidence
   FROM mart.signal_outcomes outcome
  GROUP BY strategy, ((("timestamp" AT TIME ZONE 'UTC'::text))::date)
  WITH NO DATA;


--
-- Name: MATERIALIZED VIEW strategy_daily; Type: COMMENT; Schema: kpi
--

COMMENT ON MATERIALIZED VIEW kpi.strategy_daily IS 'What each strategy said on a day (UTC), and its outcome';


--
-- Name: latest_prices; Type: VIEW; Schema: mart
--

CREATE VIEW mart.latest_prices AS
 SELECT DISTINCT ON (company_id) company_id,
    ticker_symbol,
    trade_date,
    close,
    ((adjusted_close / NULLIF(previous_adjusted_close, (0)::numeric)) - (1)::numeric) AS change,
    currency
   FROM mart.daily_prices price
  ORDER BY company_id, trade_date DESC;


--
-- Name: VIEW latest_prices; Type: COMMENT; Schema: mart
--

COMMENT ON VIEW mart.latest_prices IS 'The newest closing price of each company, and its change';


--
-- Name: financial_indicators; Type: TABLE; Schema: public
--

CREATE TABLE public.financial_indicators (
    id bigint NOT NULL,
    company_id bigint NOT NULL,
    statement_id bigint,
    calculated_on date NOT NULL,
    per numeric(12,4),
    pbr numeric(12,4),
    roe numeric(9,4),
    roa numeric(9,4),
    equity_ratio numeric(9,4),
    dividend_yield numeric(9,4),
    created_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: TABLE financial_indicators; Type: COMMENT; Schema: public
--

COMMENT ON TABLE public.financial_indicators IS 'Ratios computed from statements and prices';


--
-- Name: COLUMN financial_indicators.statement_id; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.financial_indicators.statement_id IS 'The statement it was computed from';


--
-- Name: COLUMN financial_indicators.per; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.financial_indicators.per IS 'Price to earnings';


--
-- Name: COLUMN financial_indicators.pbr; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.financial_indicators.pbr IS 'Price to book value';


--
-- Name: COLUMN financial_indicators.roe; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.financial_indicators.roe IS 'Return on equity, per cent';


--
-- Name: COLUMN financial_indicators.roa; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.financial_indicators.roa IS 'Return on assets, per cent';


--
-- Name: COLUMN financial_indicators.equity_ratio; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.financial_indicators.equity_ratio IS 'Per cent';


--
-- Name: COLUMN financial_indicators.dividend_yield; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.financial_indicators.dividend_yield IS 'Per cent';


--
-- Name: listed_info; Type: TABLE; Schema: ref
--

CREATE TABLE ref.listed_info (
    code character varying(5) NOT NULL,
    exchange_code character varying(4) DEFAULT 'XTKS'::character varying NOT NULL,
    company_name character varying(255) NOT NULL,
    company_name_english character varying(255),
    sector17_code character varying(2),
    sector33_code character varying(4),
    scale_category character varying(50),
    market_code character varying(4) NOT NULL,
    status ref.listing_status DEFAULT 'LISTED'::ref.listing_status NOT NULL,
    as_of date NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_listed_info_code_form CHECK (((code)::text ~ '^[0-9][0-9A-Z]{4}$'::text))
);


--
-- Name: TABLE listed_info; Type: COMMENT; Schema: ref
--

COMMENT ON TABLE ref.listed_info IS 'What the exchange says about each listing, one row per code';


--
-- Name: COLUMN listed_info.code; Type: COMMENT; Schema: ref
--

COMMENT ON COLUMN ref.listed_info.code IS 'Five characters, such as 72030 or 130A0';


--
-- Name: COLUMN listed_info.as_of; Type: COMMENT; Schema: ref
--

COMMENT ON COLUMN ref.listed_info.as_of IS 'The day that the exchange said it on';


--
-- Name: market_segments; Type: TABLE; Schema: ref
--

CREATE TABLE ref.market_segments (
    code character varying(4) NOT NULL,
    name character varying(50) NOT NULL
);


--
-- Name: TABLE market_segments; Type: COMMENT; Schema: ref
--

COMMENT ON TABLE ref.market_segments IS 'Parts of the Tokyo market';


--
-- Name: company_overview; Type: VIEW; Schema: mart
--

CREATE VIEW mart.company_overview AS
 SELECT company.id AS company_id,
    company.ticker_symbol,
    company.name,
    company.industry,
    listing.code AS listing_code,
    segment.name AS market_segment,
    price.trade_date,
    price.close,
    price.change,
    price.currency,
    indicator.per,
    indicator.pbr,
    indicator.roe,
    indicator.equity_ratio
   FROM ((((public.companies company
     LEFT JOIN ref.listed_info listing ON (((listing.code)::text = (company.listing_code)::text)))
     LEFT JOIN ref.market_segments segment ON (((segment.code)::text = (listing.market_code)::text)))
     LEFT JOIN mart.latest_prices price ON ((price.company_id = company.id)))
     LEFT JOIN LATERAL ( SELECT newest.per,
            newest.pbr,
            newest.roe,
            newest.equity_ratio
           FROM public.financial_indicators newest
          WHERE (newest.company_id = company.id)
          ORDER BY newest.calculated_on DESC
         LIMIT 1) indicator ON (true))
  WHERE company.is_active;


--
-- Name: VIEW company_overview; Type: COMMENT; Schema: mart
--

COMMENT ON VIEW mart.company_overview IS 'Each active company with its listing, its newest price and ratios';


--
-- Name: alembic_version; Type: TABLE; Schema: public
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: companies_id_seq; Type: SEQUENCE; Schema: public
--

ALTER TABLE public.companies ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.companies_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: executions; Type: TABLE; Schema: public
--

CREATE TABLE public.executions (
    id bigint NOT NULL,
    order_id bigint NOT NULL,
    position_id bigint NOT NULL,
    exchange_trade_id character varying(100) NOT NULL,
    price numeric(20,8) NOT NULL,
    quantity numeric(20,8) NOT NULL,
    fee numeric(20,8) DEFAULT '0'::numeric NOT NULL,
    fee_currency character varying(10),
    executed_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_executions_price_and_quantity_positive CHECK (((price > (0)::numeric) AND (quantity > (0)::numeric)))
);


--
-- Name: TABLE executions; Type: COMMENT; Schema: public
--

COMMENT ON TABLE public.executions IS 'Fills, as the exchange reports them';


--
-- Name: executions_id_seq; Type: SEQUENCE; Schema: public
--

ALTER TABLE public.executions ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.executions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: financial_indicators_id_seq; Type: SEQUENCE; Schema: public
--

ALTER TABLE public.financial_indicators ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.financial_indicators_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: financial_statements; Type: TABLE; Schema: public
--

CREATE TABLE public.financial_statements (
    id bigint NOT NULL,
    company_id bigint NOT NULL,
    fiscal_year smallint NOT NULL,
    period character varying(2) NOT NULL,
    period_end date NOT NULL,
    filed_on date,
    revenue numeric(20,2),
    operating_income numeric(20,2),
    ordinary_income numeric(20,2),
    net_income numeric(20,2),
    total_assets numeric(20,2),
    total_liabilities numeric(20,2),
    net_assets numeric(20,2),
    operating_cash_flow numeric(20,2),
    investing_cash_flow numeric(20,2),
    financing_cash_flow numeric(20,2),
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_financial_statements_fiscal_year_plausible CHECK (((fiscal_year >= 1900) AND (fiscal_year <= 2200))),
    CONSTRAINT ck_financial_statements_period_known CHECK (((period)::text = ANY ((ARRAY['Q1'::character varying, 'Q2'::character varying, 'Q3'::character varying, 'Q4'::character varying, 'FY'::character varying])::text[])))
);


--
-- Name: TABLE financial_statements; Type: COMMENT; Schema: public
--

COMMENT ON TABLE public.financial_statements IS 'Profit and loss, balance sheet and cash flow, one row per company and period';


--
-- Name: COLUMN financial_statements.period; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.financial_statements.period IS 'Q1 to Q4, or FY for the whole year';


--
-- Name: financial_statements_id_seq; Type: SEQUENCE; Schema: public
--

ALTER TABLE public.financial_statements ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.financial_statements_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: ohlcv; Type: TABLE; Schema: public
--

CREATE TABLE public.ohlcv (
    id bigint NOT NULL,
    exchange character varying(50) NOT NULL,
    symbol character varying(50) NOT NULL,
    timeframe character varying(10) NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    open numeric(20,8) NOT NULL,
    high numeric(20,8) NOT NULL,
    low numeric(20,8) NOT NULL,
    close numeric(20,8) NOT NULL,
    volume numeric(20,8) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_ohlcv_price_range CHECK (((low <= LEAST(open, close)) AND (high >= GREATEST(open, close)))),
    CONSTRAINT ck_ohlcv_volume_not_negative CHECK ((volume >= (0)::numeric))
);


--
-- Name: TABLE ohlcv; Type: COMMENT; Schema: public
--

COMMENT ON TABLE public.ohlcv IS 'Candles, one row per exchange, symbol, timeframe and opening time';


--
-- Name: COLUMN ohlcv.symbol; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.ohlcv.symbol IS 'As the exchange writes it, such as BTC/USDT';


--
-- Name: COLUMN ohlcv.timeframe; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.ohlcv.timeframe IS 'Length of the candle, such as 1m, 1h, 1d';


--
-- Name: COLUMN ohlcv."timestamp"; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.ohlcv."timestamp" IS 'When the candle opened';


--
-- Name: ohlcv_id_seq; Type: SEQUENCE; Schema: public
--

ALTER TABLE public.ohlcv ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.ohlcv_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: order_events; Type: TABLE; Schema: public
--

CREATE TABLE public.order_events (
    id bigint NOT NULL,
    order_id bigint NOT NULL,
    status_before character varying(20),
    status_after character varying(20) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_order_events_status_changes CHECK (((status_before)::text IS DISTINCT FROM (status_after)::text))
);


--
-- Name: TABLE order_events; Type: COMMENT; Schema: public
--

COMMENT ON TABLE public.order_events IS 'Each status that an order came to, written by a trigger';


--
-- Name: COLUMN order_events.status_before; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.order_events.status_before IS 'None when the order was new';


--
-- Name: order_events_id_seq; Type: SEQUENCE; Schema: public
--

ALTER TABLE public.order_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.order_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: orders; Type: TABLE; Schema: public
--

CREATE TABLE public.orders (
    id bigint NOT NULL,
    signal_id bigint,
    client_order_id uuid NOT NULL,
    exchange_order_id character varying(100),
    exchange character varying(50) NOT NULL,
    symbol character varying(50) NOT NULL,
    side character varying(4) NOT NULL,
    order_type character varying(10) NOT NULL,
    status character varying(20) DEFAULT 'NEW'::character varying NOT NULL,
    quantity numeric(20,8) NOT NULL,
    limit_price numeric(20,8),
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_orders_limit_price_if_limit CHECK ((((order_type)::text = 'LIMIT'::text) = (limit_price IS NOT NULL))),
    CONSTRAINT ck_orders_order_type_known CHECK (((order_type)::text = ANY ((ARRAY['MARKET'::character varying, 'LIMIT'::character varying])::text[]))),
    CONSTRAINT ck_orders_quantity_positive CHECK ((quantity > (0)::numeric)),
    CONSTRAINT ck_orders_side_known CHECK (((side)::text = ANY ((ARRAY['BUY'::character varying, 'SELL'::character varying])::text[]))),
    CONSTRAINT ck_orders_status_known CHECK (((status)::text = ANY ((ARRAY['NEW'::character varying, 'ACCEPTED'::character varying, 'PARTIALLY_FILLED'::character varying, 'FILLED'::character varying, 'CANCELLED'::character varying, 'REJECTED'::character varying])::text[])))
);


--
-- Name: TABLE orders; Type: COMMENT; Schema: public
--

COMMENT ON TABLE public.orders IS 'Orders sent to exchanges';


--
-- Name: COLUMN orders.signal_id; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.orders.signal_id IS 'The signal it acts on; none for an order placed by hand';


--
-- Name: COLUMN orders.client_order_id; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.orders.client_order_id IS 'Ours, sent along, so that a retry is recognised';


--
-- Name: COLUMN orders.exchange_order_id; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.orders.exchange_order_id IS 'Theirs, once they have accepted it';


--
-- Name: COLUMN orders.limit_price; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.orders.limit_price IS 'Only for LIMIT';


--
-- Name: orders_id_seq; Type: SEQUENCE; Schema: public
--

ALTER TABLE public.orders ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.orders_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: positions; Type: TABLE; Schema: public
--

CREATE TABLE public.positions (
    id bigint NOT NULL,
    strategy character varying(100) NOT NULL,
    exchange character varying(50) NOT NULL,
    symbol character varying(50) NOT NULL,
    quantity numeric(20,8) NOT NULL,
    average_price numeric(20,8) NOT NULL,
    realised_profit numeric(20,8) DEFAULT '0'::numeric NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_positions_closed_after_opened CHECK ((closed_at >= opened_at)),
    CONSTRAINT ck_positions_closed_is_flat CHECK (((closed_at IS NULL) OR (quantity = (0)::numeric)))
);


--
-- Name: TABLE positions; Type: COMMENT; Schema: public
--

COMMENT ON TABLE public.positions IS 'What is held, and was held, one row per strategy and symbol from opening to closing';


--
-- Name: COLUMN positions.quantity; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.positions.quantity IS 'Negative when short';


--
-- Name: positions_id_seq; Type: SEQUENCE; Schema: public
--

ALTER TABLE public.positions ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.positions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: signals; Type: TABLE; Schema: public
--

CREATE TABLE public.signals (
    id bigint NOT NULL,
    strategy character varying(100) NOT NULL,
    exchange character varying(50) NOT NULL,
    symbol character varying(50) NOT NULL,
    timeframe character varying(10) NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    action character varying(10) NOT NULL,
    confidence numeric(5,2) NOT NULL,
    price_ref numeric(20,8),
    indicators jsonb DEFAULT '{}'::jsonb NOT NULL,
    meta jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    instrument_id bigint NOT NULL,
    CONSTRAINT ck_signals_action_known CHECK (((action)::text = ANY ((ARRAY['BUY'::character varying, 'SELL'::character varying, 'HOLD'::character varying])::text[]))),
    CONSTRAINT ck_signals_confidence_per_cent CHECK (((confidence >= (0)::numeric) AND (confidence <= (100)::numeric)))
);


--
-- Name: TABLE signals; Type: COMMENT; Schema: public
--

COMMENT ON TABLE public.signals IS 'What strategies concluded, one row per strategy and candle';


--
-- Name: COLUMN signals."timestamp"; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.signals."timestamp" IS 'Of the candle that gave the signal';


--
-- Name: COLUMN signals.confidence; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.signals.confidence IS 'Per cent';


--
-- Name: COLUMN signals.price_ref; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.signals.price_ref IS 'Price that the strategy saw';


--
-- Name: COLUMN signals.indicators; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.signals.indicators IS 'Values that led to it';


--
-- Name: COLUMN signals.meta; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.signals.meta IS 'Strategy version, parameters';


--
-- Name: COLUMN signals.instrument_id; Type: COMMENT; Schema: public
--

COMMENT ON COLUMN public.signals.instrument_id IS 'Of exchange and symbol; a trigger fills it';


--
-- Name: signals_id_seq; Type: SEQUENCE; Schema: public
--

ALTER TABLE public.signals ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.signals_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: stock_prices_id_seq; Type: SEQUENCE; Schema: public
--

ALTER TABLE public.stock_prices ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.stock_prices_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: landings; Type: TABLE; Schema: raw
--

CREATE TABLE raw.landings (
    source character varying(50) NOT NULL,
    dataset character varying(50) NOT NULL,
    object_key character varying(200) NOT NULL,
    fetched_at timestamp with time zone NOT NULL,
    sha256 bytea NOT NULL,
    payload jsonb NOT NULL,
    CONSTRAINT ck_landings_sha256_length CHECK ((octet_length(sha256) = 32))
)
PARTITION BY RANGE (fetched_at);


--
-- Name: TABLE landings; Type: COMMENT; Schema: raw
--

COMMENT ON TABLE raw.landings IS 'Answers of sources as they came, one row per request, by month';


--
-- Name: COLUMN landings.dataset; Type: COMMENT; Schema: raw
--

COMMENT ON COLUMN raw.landings.dataset IS 'Kind of answer, such as daily_quotes';


--
-- Name: COLUMN landings.object_key; Type: COMMENT; Schema: raw
--

COMMENT ON COLUMN raw.landings.object_key IS 'What was asked for, such as 72030/2025-06-02';


--
-- Name: COLUMN landings.sha256; Type: COMMENT; Schema: raw
--

COMMENT ON COLUMN raw.landings.sha256 IS 'Of the answer''s bytes, before they were parsed';


--
-- Name: landings_202506; Type: TABLE; Schema: raw
--

CREATE TABLE raw.landings_202506 (
    source character varying(50) NOT NULL,
    dataset character varying(50) NOT NULL,
    object_key character varying(200) NOT NULL,
    fetched_at timestamp with time zone NOT NULL,
    sha256 bytea NOT NULL,
    payload jsonb NOT NULL,
    CONSTRAINT ck_landings_sha256_length CHECK ((octet_length(sha256) = 32))
);


--
-- Name: landings_202507; Type: TABLE; Schema: raw
--

CREATE TABLE raw.landings_202507 (
    source character varying(50) NOT NULL,
    dataset character varying(50) NOT NULL,
    object_key character varying(200) NOT NULL,
    fetched_at timestamp with time zone NOT NULL,
    sha256 bytea NOT NULL,
    payload jsonb NOT NULL,
    CONSTRAINT ck_landings_sha256_length CHECK ((octet_length(sha256) = 32))
);


--
-- Name: landings_202508; Type: TABLE; Schema: raw
--

CREATE TABLE raw.landings_202508 (
    source character varying(50) NOT NULL,
    dataset character varying(50) NOT NULL,
    object_key character varying(200) NOT NULL,
    fetched_at timestamp with time zone NOT NULL,
    sha256 bytea NOT NULL,
    payload jsonb NOT NULL,
    CONSTRAINT ck_landings_sha256_length CHECK ((octet_length(sha256) = 32))
);


--
-- Name: landings_default; Type: TABLE; Schema: raw
--

CREATE TABLE raw.landings_default (
    source character varying(50) NOT NULL,
    dataset character varying(50) NOT NULL,
    object_key character varying(200) NOT NULL,
    fetched_at timestamp with time zone NOT NULL,
    sha256 bytea NOT NULL,
    payload jsonb NOT NULL,
    CONSTRAINT ck_landings_sha256_length CHECK ((octet_length(sha256) = 32))
);


--
-- Name: exchanges; Type: TABLE; Schema: ref
--

CREATE TABLE ref.exchanges (
    code character varying(4) NOT NULL,
    name character varying(100) NOT NULL,
    country character varying(2) NOT NULL,
    currency character varying(3) NOT NULL,
    time_zone character varying(40) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_exchanges_code_form CHECK (((code)::text ~ '^[A-Z0-9]{4}$'::text)),
    CONSTRAINT ck_exchanges_country_form CHECK (((country)::text ~ '^[A-Z]{2}$'::text)),
    CONSTRAINT ck_exchanges_currency_form CHECK (((currency)::text ~ '^[A-Z]{3}$'::text))
);


--
-- Name: TABLE exchanges; Type: COMMENT; Schema: ref
--

COMMENT ON TABLE ref.exchanges IS 'Stock exchanges';


--
-- Name: COLUMN exchanges.code; Type: COMMENT; Schema: ref
--

COMMENT ON COLUMN ref.exchanges.code IS 'ISO 10383, such as XTKS';


--
-- Name: COLUMN exchanges.time_zone; Type: COMMENT; Schema: ref
--

COMMENT ON COLUMN ref.exchanges.time_zone IS 'Name in the IANA database, such as Asia/Tokyo';


--
-- Name: holidays; Type: TABLE; Schema: ref
--

CREATE TABLE ref.holidays (
    exchange_code character varying(4) NOT NULL,
    day date NOT NULL,
    name character varying(100) NOT NULL
);


--
-- Name: TABLE holidays; Type: COMMENT; Schema: ref
--

COMMENT ON TABLE ref.holidays IS 'Weekdays on which an exchange is closed';


--
-- Name: instruments; Type: TABLE; Schema: ref
--

CREATE TABLE ref.instruments (
    id bigint NOT NULL,
    exchange character varying(50) NOT NULL,
    symbol character varying(50) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: TABLE instruments; Type: COMMENT; Schema: ref
--

COMMENT ON TABLE ref.instruments IS 'What is traded where, one row per exchange and symbol';


--
-- Name: instruments_id_seq; Type: SEQUENCE; Schema: ref
--

ALTER TABLE ref.instruments ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ref.instruments_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: daily_quotes; Type: TABLE; Schema: stg
--

CREATE TABLE stg.daily_quotes (
    code character varying(5) NOT NULL,
    trade_date date NOT NULL,
    open numeric(20,8),
    high numeric(20,8),
    low numeric(20,8),
    close numeric(20,8),
    volume bigint,
    turnover numeric(24,2),
    adjustment_factor numeric(12,6) DEFAULT 1 NOT NULL,
    loaded_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_daily_quotes_code_form CHECK (((code)::text ~ '^[0-9][0-9A-Z]{4}$'::text)),
    CONSTRAINT ck_daily_quotes_price_range CHECK (((low <= LEAST(open, close)) AND (high >= GREATEST(open, close)))),
    CONSTRAINT ck_daily_quotes_volume_not_negative CHECK ((volume >= 0))
);


--
-- Name: TABLE daily_quotes; Type: COMMENT; Schema: stg
--

COMMENT ON TABLE stg.daily_quotes IS 'Daily quotes as the exchange gives them, one row per code and day';


--
-- Name: COLUMN daily_quotes.open; Type: COMMENT; Schema: stg
--

COMMENT ON COLUMN stg.daily_quotes.open IS 'Like the other prices NULL on a day without a trade';


--
-- Name: COLUMN daily_quotes.adjustment_factor; Type: COMMENT; Schema: stg
--

COMMENT ON COLUMN stg.daily_quotes.adjustment_factor IS 'Of a split on this day, such as 0.5; otherwise 1';


--
-- Name: latest_landings; Type: VIEW; Schema: stg
--

CREATE VIEW stg.latest_landings AS
 SELECT DISTINCT ON (source, dataset, object_key) source,
    dataset,
    object_key,
    fetched_at,
    payload
   FROM raw.landings landing
  ORDER BY source, dataset, object_key, fetched_at DESC;


--
-- Name: VIEW latest_landings; Type: COMMENT; Schema: stg
--

COMMENT ON VIEW stg.latest_landings IS 'The newest answer to each request';


--
-- Name: landed_daily_quotes; Type: VIEW; Schema: stg
--

CREATE VIEW stg.landed_daily_quotes AS
 SELECT landing.source,
    landing.fetched_at,
    (quote.value ->> 'Code'::text) AS code,
    ((quote.value ->> 'Date'::text))::date AS trade_date,
    ((quote.value ->> 'Open'::text))::numeric AS open,
    ((quote.value ->> 'High'::text))::numeric AS high,
    ((quote.value ->> 'Low'::text))::numeric AS low,
    ((quote.value ->> 'Close'::text))::numeric AS close,
    (((quote.value ->> 'Volume'::text))::numeric)::bigint AS volume,
    ((quote.value ->> 'TurnoverValue'::text))::numeric AS turnover,
    COALESCE(((quote.value ->> 'AdjustmentFactor'::text))::numeric, (1)::numeric) AS adjustment_factor
   FROM (stg.latest_landings landing
     CROSS JOIN LATERAL jsonb_array_elements((landing.payload -> 'daily_quotes'::text)) quote(value))
  WHERE ((landing.dataset)::text = 'daily_quotes'::text);


--
-- Name: VIEW landed_daily_quotes; Type: COMMENT; Schema: stg
--

COMMENT ON VIEW stg.landed_daily_quotes IS 'The quotes in the newest answers, typed';


--
-- Name: landings_202506; Type: TABLE ATTACH; Schema: raw
--

ALTER TABLE ONLY raw.landings ATTACH PARTITION raw.landings_202506 FOR VALUES FROM ('2025-06-01 00:00:00+00') TO ('2025-07-01 00:00:00+00');


--
-- Name: landings_202507; Type: TABLE ATTACH; Schema: raw
--

ALTER TABLE ONLY raw.landings ATTACH PARTITION raw.landings_202507 FOR VALUES FROM ('2025-07-01 00:00:00+00') TO ('2025-08-01 00:00:00+00');


--
-- Name: landings_202508; Type: TABLE ATTACH; Schema: raw
--

ALTER TABLE ONLY raw.landings ATTACH PARTITION raw.landings_202508 FOR VALUES FROM ('2025-08-01 00:00:00+00') TO ('2025-09-01 00:00:00+00');


--
-- Name: landings_default; Type: TABLE ATTACH; Schema: raw
--

ALTER TABLE ONLY raw.landings ATTACH PARTITION raw.landings_default DEFAULT;


--
-- Name: exchanges; Type: TABLE DATA; Schema: ref
--

INSERT INTO ref.exchanges (code, name, country, currency, time_zone, created_at, updated_at) VALUES ('XTKS', 'Tokyo Stock Exchange', 'JP', 'JPY', 'Asia/Tokyo', '2026-11-21 19:48:28.776905+00', '2026-11-21 19:48:28.776905+00');
INSERT INTO ref.exchanges (code, name, country, currency, time_zone, created_at, updated_at) VALUES ('XNAS', 'Nasdaq', 'US', 'USD', 'America/New_York', '2026-11-21 19:48:28.776905+00', '2026-11-21 19:48:28.776905+00');
INSERT INTO ref.exchanges (code, name, country, currency, time_zone, created_at, updated_at) VALUES ('XNYS', 'New York Stock Exchange', 'US', 'USD', 'America/New_York', '2026-11-21 19:48:28.776905+00', '2026-11-21 19:48:28.776905+00');
INSERT INTO ref.exchanges (code, name, country, currency, time_zone, created_at, updated_at) VALUES ('XETR', 'Xetra', 'DE', 'EUR', 'Europe/Berlin', '2026-11-21 19:48:28.776905+00', '2026-11-21 19:48:28.776905+00');


--
-- Name: holidays; Type: TABLE DATA; Schema: ref
--

INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-01-01', 'New Year''s Day');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-01-02', 'Market holiday');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-01-03', 'Market holiday');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-01-13', 'Coming of Age Day');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-02-11', 'National Foundation Day');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-02-24', 'Emperor''s Birthday, observed');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-03-20', 'Vernal Equinox');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-04-29', 'Showa Day');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-05-05', 'Children''s Day');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-05-06', 'Greenery Day, observed');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-07-21', 'Marine Day');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-08-11', 'Mountain Day');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-09-15', 'Respect for the Aged Day');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-09-23', 'Autumnal Equinox');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-10-13', 'Sports Day');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-11-03', 'Culture Day');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-11-24', 'Labour Thanksgiving Day, observed');
INSERT INTO ref.holidays (exchange_code, day, name) VALUES ('XTKS', '2025-12-31', 'Market holiday');


--
-- Name: market_segments; Type: TABLE DATA; Schema: ref
--

INSERT INTO ref.market_segments (code, name) VALUES ('0111', 'Prime');
INSERT INTO ref.market_segments (code, name) VALUES ('0112', 'Standard');
INSERT INTO ref.market_segments (code, name) VALUES ('0113', 'Growth');
INSERT INTO ref.market_segments (code, name) VALUES ('0105', 'Tokyo Pro');
INSERT INTO ref.market_segments (code, name) VALUES ('0109', 'Others');


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: companies pk_companies; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.companies
    ADD CONSTRAINT pk_companies PRIMARY KEY (id);


--
-- Name: executions pk_executions; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.executions
    ADD CONSTRAINT pk_executions PRIMARY KEY (id);


--
-- Name: financial_indicators pk_financial_indicators; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.financial_indicators
    ADD CONSTRAINT pk_financial_indicators PRIMARY KEY (id);


--
-- Name: financial_statements pk_financial_statements; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.financial_statements
    ADD CONSTRAINT pk_financial_statements PRIMARY KEY (id);


--
-- Name: ohlcv pk_ohlcv; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.ohlcv
    ADD CONSTRAINT pk_ohlcv PRIMARY KEY (id);


--
-- Name: order_events pk_order_events; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.order_events
    ADD CONSTRAINT pk_order_events PRIMARY KEY (id);


--
-- Name: orders pk_orders; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.orders
    ADD CONSTRAINT pk_orders PRIMARY KEY (id);


--
-- Name: positions pk_positions; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.positions
    ADD CONSTRAINT pk_positions PRIMARY KEY (id);


--
-- Name: signals pk_signals; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.signals
    ADD CONSTRAINT pk_signals PRIMARY KEY (id);


--
-- Name: stock_prices pk_stock_prices; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.stock_prices
    ADD CONSTRAINT pk_stock_prices PRIMARY KEY (id);


--
-- Name: companies uq_companies_edinet_code; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.companies
    ADD CONSTRAINT uq_companies_edinet_code UNIQUE (edinet_code);


--
-- Name: companies uq_companies_ticker_symbol; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.companies
    ADD CONSTRAINT uq_companies_ticker_symbol UNIQUE (ticker_symbol);


--
-- Name: executions uq_executions_order_id_exchange_trade_id; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.executions
    ADD CONSTRAINT uq_executions_order_id_exchange_trade_id UNIQUE (order_id, exchange_trade_id);


--
-- Name: financial_indicators uq_financial_indicators_company_id_calculated_on; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.financial_indicators
    ADD CONSTRAINT uq_financial_indicators_company_id_calculated_on UNIQUE (company_id, calculated_on);


--
-- Name: financial_statements uq_financial_statements_company_id_fiscal_year_period; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.financial_statements
    ADD CONSTRAINT uq_financial_statements_company_id_fiscal_year_period UNIQUE (company_id, fiscal_year, period);


--
-- Name: ohlcv uq_ohlcv_exchange_symbol_timeframe_timestamp; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.ohlcv
    ADD CONSTRAINT uq_ohlcv_exchange_symbol_timeframe_timestamp UNIQUE (exchange, symbol, timeframe, "timestamp");


--
-- Name: orders uq_orders_client_order_id; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.orders
    ADD CONSTRAINT uq_orders_client_order_id UNIQUE (client_order_id);


--
-- Name: orders uq_orders_exchange_exchange_order_id; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.orders
    ADD CONSTRAINT uq_orders_exchange_exchange_order_id UNIQUE (exchange, exchange_order_id);


--
-- Name: signals uq_signals_strategy_exchange_symbol_timeframe_timestamp; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.signals
    ADD CONSTRAINT uq_signals_strategy_exchange_symbol_timeframe_timestamp UNIQUE (strategy, exchange, symbol, timeframe, "timestamp");


--
-- Name: stock_prices uq_stock_prices_company_id_trade_date; Type: CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.stock_prices
    ADD CONSTRAINT uq_stock_prices_company_id_trade_date UNIQUE (company_id, trade_date);


--
-- Name: landings pk_landings; Type: CONSTRAINT; Schema: raw
--

ALTER TABLE ONLY raw.landings
    ADD CONSTRAINT pk_landings PRIMARY KEY (source, dataset, object_key, fetched_at);


--
-- Name: landings_202506 landings_202506_pkey; Type: CONSTRAINT; Schema: raw
--

ALTER TABLE ONLY raw.landings_202506
    ADD CONSTRAINT landings_202506_pkey PRIMARY KEY (source, dataset, object_key, fetched_at);


--
-- Name: landings_202507 landings_202507_pkey; Type: CONSTRAINT; Schema: raw
--

ALTER TABLE ONLY raw.landings_202507
    ADD CONSTRAINT landings_202507_pkey PRIMARY KEY (source, dataset, object_key, fetched_at);


--
-- Name: landings_202508 landings_202508_pkey; Type: CONSTRAINT; Schema: raw
--

ALTER TABLE ONLY raw.landings_202508
    ADD CONSTRAINT landings_202508_pkey PRIMARY KEY (source, dataset, object_key, fetched_at);


--
-- Name: landings_default landings_default_pkey; Type: CONSTRAINT; Schema: raw
--

ALTER TABLE ONLY raw.landings_default
    ADD CONSTRAINT landings_default_pkey PRIMARY KEY (source, dataset, object_key, fetched_at);


--
-- Name: exchanges pk_exchanges; Type: CONSTRAINT; Schema: ref
--

ALTER TABLE ONLY ref.exchanges
    ADD CONSTRAINT pk_exchanges PRIMARY KEY (code);


--
-- Name: holidays pk_holidays; Type: CONSTRAINT; Schema: ref
--

ALTER TABLE ONLY ref.holidays
    ADD CONSTRAINT pk_holidays PRIMARY KEY (exchange_code, day);


--
-- Name: instruments pk_instruments; Type: CONSTRAINT; Schema: ref
--

ALTER TABLE ONLY ref.instruments
    ADD CONSTRAINT pk_instruments PRIMARY KEY (id);


--
-- Name: listed_info pk_listed_info; Type: CONSTRAINT; Schema: ref
--

ALTER TABLE ONLY ref.listed_info
    ADD CONSTRAINT pk_listed_info PRIMARY KEY (code);


--
-- Name: market_segments pk_market_segments; Type: CONSTRAINT; Schema: ref
--

ALTER TABLE ONLY ref.market_segments
    ADD CONSTRAINT pk_market_segments PRIMARY KEY (code);


--
-- Name: instruments uq_instruments_exchange_symbol; Type: CONSTRAINT; Schema: ref
--

ALTER TABLE ONLY ref.instruments
    ADD CONSTRAINT uq_instruments_exchange_symbol UNIQUE (exchange, symbol);


--
-- Name: daily_quotes pk_daily_quotes; Type: CONSTRAINT; Schema: stg
--

ALTER TABLE ONLY stg.daily_quotes
    ADD CONSTRAINT pk_daily_quotes PRIMARY KEY (code, trade_date);


--
-- Name: uq_market_daily_trade_date_currency; Type: INDEX; Schema: kpi
--

CREATE UNIQUE INDEX uq_market_daily_trade_date_currency ON kpi.market_daily USING btree (trade_date, currency);


--
-- Name: uq_strategy_daily_strategy_day; Type: INDEX; Schema: kpi
--

CREATE UNIQUE INDEX uq_strategy_daily_strategy_day ON kpi.strategy_daily USING btree (strategy, day);


--
-- Name: ix_companies_industry; Type: INDEX; Schema: public
--

CREATE INDEX ix_companies_industry ON public.companies USING btree (industry);


--
-- Name: ix_executions_executed_at; Type: INDEX; Schema: public
--

CREATE INDEX ix_executions_executed_at ON public.executions USING btree (executed_at DESC);


--
-- Name: ix_executions_position_id; Type: INDEX; Schema: public
--

CREATE INDEX ix_executions_position_id ON public.executions USING btree (position_id);


--
-- Name: ix_financial_indicators_statement_id; Type: INDEX; Schema: public
--

CREATE INDEX ix_financial_indicators_statement_id ON public.financial_indicators USING btree (statement_id);


--
-- Name: ix_financial_statements_period_end; Type: INDEX; Schema: public
--

CREATE INDEX ix_financial_statements_period_end ON public.financial_statements USING btree (period_end DESC);


--
-- Name: ix_ohlcv_symbol_timeframe_timestamp; Type: INDEX; Schema: public
--

CREATE INDEX ix_ohlcv_symbol_timeframe_timestamp ON public.ohlcv USING btree (symbol, timeframe, "timestamp" DESC);


--
-- Name: ix_ohlcv_timestamp; Type: INDEX; Schema: public
--

CREATE INDEX ix_ohlcv_timestamp ON public.ohlcv USING btree ("timestamp" DESC);


--
-- Name: ix_order_events_order_id_created_at; Type: INDEX; Schema: public
--

CREATE INDEX ix_order_events_order_id_created_at ON public.order_events USING btree (order_id, created_at);


--
-- Name: ix_orders_open; Type: INDEX; Schema: public
--

CREATE INDEX ix_orders_open ON public.orders USING btree (created_at) WHERE ((status)::text = ANY ((ARRAY['NEW'::character varying, 'ACCEPTED'::character varying, 'PARTIALLY_FILLED'::character varying])::text[]));


--
-- Name: ix_orders_signal_id; Type: INDEX; Schema: public
--

CREATE INDEX ix_orders_signal_id ON public.orders USING btree (signal_id);


--
-- Name: ix_orders_symbol_created_at; Type: INDEX; Schema: public
--

CREATE INDEX ix_orders_symbol_created_at ON public.orders USING btree (symbol, created_at DESC);


--
-- Name: ix_signals_instrument_id_timestamp; Type: INDEX; Schema: public
--

CREATE INDEX ix_signals_instrument_id_timestamp ON public.signals USING btree (instrument_id, "timestamp" DESC);


--
-- Name: ix_signals_symbol_timestamp; Type: INDEX; Schema: public
--

CREATE INDEX ix_signals_symbol_timestamp ON public.signals USING btree (symbol, "timestamp" DESC);


--
-- Name: ix_signals_timestamp; Type: INDEX; Schema: public
--

CREATE INDEX ix_signals_timestamp ON public.signals USING btree ("timestamp" DESC);


--
-- Name: ix_stock_prices_trade_date; Type: INDEX; Schema: public
--

CREATE INDEX ix_stock_prices_trade_date ON public.stock_prices USING btree (trade_date DESC);


--
-- Name: uq_companies_listing_code; Type: INDEX; Schema: public
--

CREATE UNIQUE INDEX uq_companies_listing_code ON public.companies USING btree (listing_code);


--
-- Name: uq_positions_open; Type: INDEX; Schema: public
--

CREATE UNIQUE INDEX uq_positions_open ON public.positions USING btree (strategy, exchange, symbol) WHERE (closed_at IS NULL);


--
-- Name: ix_landings_dataset_fetched_at; Type: INDEX; Schema: raw
--

CREATE INDEX ix_landings_dataset_fetched_at ON ONLY raw.landings USING btree (dataset, fetched_at DESC);


--
-- Name: landings_202506_dataset_fetched_at_idx; Type: INDEX; Schema: raw
--

CREATE INDEX landings_202506_dataset_fetched_at_idx ON raw.landings_202506 USING btree (dataset, fetched_at DESC);


--
-- Name: landings_202507_dataset_fetched_at_idx; Type: INDEX; Schema: raw
--

CREATE INDEX landings_202507_dataset_fetched_at_idx ON raw.landings_202507 USING btree (dataset, fetched_at DESC);


--
-- Name: landings_202508_dataset_fetched_at_idx; Type: INDEX; Schema: raw
--

CREATE INDEX landings_202508_dataset_fetched_at_idx ON raw.landings_202508 USING btree (dataset, fetched_at DESC);


--
-- Name: landings_default_dataset_fetched_at_idx; Type: INDEX; Schema: raw
--

CREATE INDEX landings_default_dataset_fetched_at_idx ON raw.landings_default USING btree (dataset, fetched_at DESC);


--
-- Name: ix_listed_info_market_code_sector33_code; Type: INDEX; Schema: ref
--

CREATE INDEX ix_listed_info_market_code_sector33_code ON ref.listed_info USING btree (market_code, sector33_code);


--
-- Name: ix_daily_quotes_trade_date; Type: INDEX; Schema: stg
--

CREATE INDEX ix_daily_quotes_trade_date ON stg.daily_quotes USING btree (trade_date);


--
-- Name: landings_202506_dataset_fetched_at_idx; Type: INDEX ATTACH; Schema: raw
--

ALTER INDEX raw.ix_landings_dataset_fetched_at ATTACH PARTITION raw.landings_202506_dataset_fetched_at_idx;


--
-- Name: landings_202506_pkey; Type: INDEX ATTACH; Schema: raw
--

ALTER INDEX raw.pk_landings ATTACH PARTITION raw.landings_202506_pkey;


--
-- Name: landings_202507_dataset_fetched_at_idx; Type: INDEX ATTACH; Schema: raw
--

ALTER INDEX raw.ix_landings_dataset_fetched_at ATTACH PARTITION raw.landings_202507_dataset_fetched_at_idx;


--
-- Name: landings_202507_pkey; Type: INDEX ATTACH; Schema: raw
--

ALTER INDEX raw.pk_landings ATTACH PARTITION raw.landings_202507_pkey;


--
-- Name: landings_202508_dataset_fetched_at_idx; Type: INDEX ATTACH; Schema: raw
--

ALTER INDEX raw.ix_landings_dataset_fetched_at ATTACH PARTITION raw.landings_202508_dataset_fetched_at_idx;


--
-- Name: landings_202508_pkey; Type: INDEX ATTACH; Schema: raw
--

ALTER INDEX raw.pk_landings ATTACH PARTITION raw.landings_202508_pkey;


--
-- Name: landings_default_dataset_fetched_at_idx; Type: INDEX ATTACH; Schema: raw
--

ALTER INDEX raw.ix_landings_dataset_fetched_at ATTACH PARTITION raw.landings_default_dataset_fetched_at_idx;


--
-- Name: landings_default_pkey; Type: INDEX ATTACH; Schema: raw
--

ALTER INDEX raw.pk_landings ATTACH PARTITION raw.landings_default_pkey;


--
-- Name: signal_outcomes _RETURN; Type: RULE; Schema: mart
--

CREATE OR REPLACE VIEW mart.signal_outcomes AS
 SELECT signal.id AS signal_id,
    signal.strategy,
    signal.exchange,
    signal.symbol,
    signal."timestamp",
    signal.action,
    signal.confidence,
    count(DISTINCT placed.id) AS orders,
    COALESCE(sum(execution.quantity), (0)::numeric) AS filled_quantity,
    (sum((execution.quantity * execution.price)) / sum(execution.quantity)) AS average_price
   FROM ((public.signals signal
     LEFT JOIN public.orders placed ON ((placed.signal_id = signal.id)))
     LEFT JOIN public.executions execution ON ((execution.order_id = placed.id)))
  GROUP BY signal.id;


--
-- Name: companies companies_set_updated_at; Type: TRIGGER; Schema: public
--

CREATE TRIGGER companies_set_updated_at BEFORE UPDATE ON public.companies FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.set_updated_at();


--
-- Name: financial_statements financial_statements_set_updated_at; Type: TRIGGER; Schema: public
--

CREATE TRIGGER financial_statements_set_updated_at BEFORE UPDATE ON public.financial_statements FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.set_updated_at();


--
-- Name: orders orders_log_event; Type: TRIGGER; Schema: public
--

CREATE TRIGGER orders_log_event AFTER INSERT OR UPDATE OF status ON public.orders FOR EACH ROW EXECUTE FUNCTION public.log_order_event();


--
-- Name: orders orders_set_updated_at; Type: TRIGGER; Schema: public
--

CREATE TRIGGER orders_set_updated_at BEFORE UPDATE ON public.orders FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.set_updated_at();


--
-- Name: positions positions_set_updated_at; Type: TRIGGER; Schema: public
--

CREATE TRIGGER positions_set_updated_at BEFORE UPDATE ON public.positions FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.set_updated_at();


--
-- Name: signals signals_correct_instrument; Type: TRIGGER; Schema: public
--

CREATE TRIGGER signals_correct_instrument BEFORE UPDATE ON public.signals FOR EACH ROW WHEN (((new.instrument_id IS NULL) OR (((old.exchange)::text IS DISTINCT FROM (new.exchange)::text) OR ((old.symbol)::text IS DISTINCT FROM (new.symbol)::text)))) EXECUTE FUNCTION public.set_signal_instrument();


--
-- Name: signals signals_set_instrument; Type: TRIGGER; Schema: public
--

CREATE TRIGGER signals_set_instrument BEFORE INSERT ON public.signals FOR EACH ROW WHEN ((new.instrument_id IS NULL)) EXECUTE FUNCTION public.set_signal_instrument();


--
-- Name: exchanges exchanges_set_updated_at; Type: TRIGGER; Schema: ref
--

CREATE TRIGGER exchanges_set_updated_at BEFORE UPDATE ON ref.exchanges FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.set_updated_at();


--
-- Name: listed_info listed_info_set_updated_at; Type: TRIGGER; Schema: ref
--

CREATE TRIGGER listed_info_set_updated_at BEFORE UPDATE ON ref.listed_info FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.set_updated_at();


--
-- Name: companies fk_companies_listing_code_listed_info; Type: FK CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.companies
    ADD CONSTRAINT fk_companies_listing_code_listed_info FOREIGN KEY (listing_code) REFERENCES ref.listed_info(code) ON DELETE RESTRICT;


--
-- Name: executions fk_executions_order_id_orders; Type: FK CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.executions
    ADD CONSTRAINT fk_executions_order_id_orders FOREIGN KEY (order_id) REFERENCES public.orders(id) ON DELETE RESTRICT;


--
-- Name: executions fk_executions_position_id_positions; Type: FK CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.executions
    ADD CONSTRAINT fk_executions_position_id_positions FOREIGN KEY (position_id) REFERENCES public.positions(id) ON DELETE RESTRICT;


--
-- Name: financial_indicators fk_financial_indicators_company_id_companies; Type: FK CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.financial_indicators
    ADD CONSTRAINT fk_financial_indicators_company_id_companies FOREIGN KEY (company_id) REFERENCES public.companies(id) ON DELETE CASCADE;


--
-- Name: financial_indicators fk_financial_indicators_statement_id_financial_statements; Type: FK CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.financial_indicators
    ADD CONSTRAINT fk_financial_indicators_statement_id_financial_statements FOREIGN KEY (statement_id) REFERENCES public.financial_statements(id) ON DELETE SET NULL;


--
-- Name: financial_statements fk_financial_statements_company_id_companies; Type: FK CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.financial_statements
    ADD CONSTRAINT fk_financial_statements_company_id_companies FOREIGN KEY (company_id) REFERENCES public.companies(id) ON DELETE CASCADE;


--
-- Name: order_events fk_order_events_order_id_orders; Type: FK CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.order_events
    ADD CONSTRAINT fk_order_events_order_id_orders FOREIGN KEY (order_id) REFERENCES public.orders(id) ON DELETE CASCADE;


--
-- Name: orders fk_orders_signal_id_signals; Type: FK CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.orders
    ADD CONSTRAINT fk_orders_signal_id_signals FOREIGN KEY (signal_id) REFERENCES public.signals(id) ON DELETE RESTRICT;


--
-- Name: signals fk_signals_instrument_id_instruments; Type: FK CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.signals
    ADD CONSTRAINT fk_signals_instrument_id_instruments FOREIGN KEY (instrument_id) REFERENCES ref.instruments(id) ON DELETE RESTRICT;


--
-- Name: stock_prices fk_stock_prices_company_id_companies; Type: FK CONSTRAINT; Schema: public
--

ALTER TABLE ONLY public.stock_prices
    ADD CONSTRAINT fk_stock_prices_company_id_companies FOREIGN KEY (company_id) REFERENCES public.companies(id) ON DELETE CASCADE;


--
-- Name: holidays fk_holidays_exchange_code_exchanges; Type: FK CONSTRAINT; Schema: ref
--

ALTER TABLE ONLY ref.holidays
    ADD CONSTRAINT fk_holidays_exchange_code_exchanges FOREIGN KEY (exchange_code) REFERENCES ref.exchanges(code) ON DELETE CASCADE;


--
-- Name: listed_info fk_listed_info_exchange_code_exchanges; Type: FK CONSTRAINT; Schema: ref
--

ALTER TABLE ONLY ref.listed_info
    ADD CONSTRAINT fk_listed_info_exchange_code_exchanges FOREIGN KEY (exchange_code) REFERENCES ref.exchanges(code) ON DELETE RESTRICT;


--
-- Name: listed_info fk_listed_info_market_code_market_segments; Type: FK CONSTRAINT; Schema: ref
--

ALTER TABLE ONLY ref.listed_info
    ADD CONSTRAINT fk_listed_info_market_code_market_segments FOREIGN KEY (market_code) REFERENCES ref.market_segments(code) ON DELETE RESTRICT;


--
-- Name: market_daily; Type: MATERIALIZED VIEW DATA; Schema: kpi
--

REFRESH MATERIALIZED VIEW kpi.market_daily;


--
-- Name: strategy_daily; Type: MATERIALIZED VIEW DATA; Schema: kpi
--

REFRESH MATERIALIZED VIEW kpi.strategy_daily;
