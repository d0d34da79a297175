;; Writes an array with text in it that is no UTF-8.
;; expect: no JSON object or array
(data (i32.const 24576) "[\"\ff\"]")
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 5) (i32.const 5) (i32.const 5)))
