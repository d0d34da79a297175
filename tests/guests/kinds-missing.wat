;; Answers with one kind less than there are rows.
;; expect: `y` breaks the contract
(func $on_null (param $row i32) (i32.store offset=4 (global.get $column) (i32.sub (global.get $rows) (i32.const 1))))
